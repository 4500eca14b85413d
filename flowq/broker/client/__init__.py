"""Connections: URLs, TLS, Sentinels and Clusters, deadlines, errors in flowq's words, and retries.

Knows commands and replies, but nothing of pipelines."""
