"""Starts, supervises and stops everything else in a process, for the command line and for programs.

The top of the runtime: nothing below imports it."""
