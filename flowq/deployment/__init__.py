"""A plan as files for the tools that people deploy with: one service per stage."""
