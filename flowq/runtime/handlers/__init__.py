"""Calls the function of a stage: in the loop, in a thread or in a process. Bytes in, an outcome out.

No exception of the user's code leaves this room, and nothing here talks to Redis."""
