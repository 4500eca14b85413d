"""Read-only views of a pipeline: counts, rates, ages, messages, and the health of its Redis.

Nothing here changes a message."""
