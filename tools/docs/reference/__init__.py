"""Writes docs/reference/ from the code: what is declared there is said once, and never out of date."""
