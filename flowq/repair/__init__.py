"""Looks into a pipeline and mends it: for programs, the command line and dashboards."""
