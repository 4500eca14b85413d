"""One look at a pipeline a second for all viewers, its history, and the stream of changes.

Knows no page."""
