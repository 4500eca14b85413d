"""Several shards of one pipeline: what goes from one to another, and what holds for all of them."""
