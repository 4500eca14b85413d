"""Measures how a site that answers 429 affects other sites in the same crawl."""
