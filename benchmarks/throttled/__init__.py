"""What a site that answers 429 costs those that are crawled beside it."""
