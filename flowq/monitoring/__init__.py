"""For monitoring tools: metrics for Prometheus, and answers to health probes.

Reads pipelines and changes nothing."""
