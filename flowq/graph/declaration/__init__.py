"""What the user writes: stages, sources, resources, their options, contexts and flows.

Knows nothing of the compiler: a declaration is checked when a pipeline is compiled from it."""
