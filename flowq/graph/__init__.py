"""The shape of a pipeline: stages, flows, and the plan compiled from them. Pure."""
