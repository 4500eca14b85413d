"""Example programs around the pipelines: what they talk to, and what they must find there."""
