"""What other tools watch a pipeline by: metrics for Prometheus and answers to health probes.

Reads pipelines and changes nothing."""
