"""The world of the flights example: where its data comes from, and what must come of it."""
