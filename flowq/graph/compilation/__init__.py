"""Compiles flows into a plan, or into a list of everything that is wrong with them.

Compares types and routes outputs by them. Knows nothing of drawings."""
