"""The world of the dispatch example: receivers with faults, and what must reach them."""
