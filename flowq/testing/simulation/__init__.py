"""The world that a seed decides: an event loop with a virtual clock, a server that follows it, and all calls between.

Knows requests and replies, but neither handlers nor expectations."""
