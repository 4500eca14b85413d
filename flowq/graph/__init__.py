"""The shape of a pipeline: what the user declares, the plan compiled from it, and its drawings. Pure.

Knows nothing of Redis, loops, clocks or chance."""
