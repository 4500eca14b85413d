"""What the user writes: stages, sources, resources, their options, contexts and flows.

Knows nothing of the compiler: declarations are checked when a pipeline is compiled."""
