"""What other tools watch a pipeline by: metrics for Prometheus, answers to health probes, manifests to deploy it."""
