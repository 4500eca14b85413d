"""The path of a message through Redis, and the names of everything that is stored there.

The only package that talks to Redis. What is not on the path has a room of its own below."""
