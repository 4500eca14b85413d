"""Compares process=True with threads on two cores: large pages are parsed."""
