"""flowq's own redis-server: one for each data folder, shared by all processes that use it.

Knows files and processes, but nothing of pipelines."""
