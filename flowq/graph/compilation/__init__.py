"""Compiles flows into a plan, or into a list of everything that is wrong with them.

Types are compared here, and outputs are routed to edges by them."""
