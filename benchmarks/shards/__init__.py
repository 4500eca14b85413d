"""What dividing a pipeline into shards costs, and what it gains, on one, two and three servers."""
