"""Strategies of hypothesis behind the public ones: values from schemas, and faults.

Knows neither stages nor harnesses."""
