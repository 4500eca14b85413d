"""A plan as files for the tools that people deploy with: one service per stage. Pure.

The manifests that depend on no plan are in `examples/deploy`."""
