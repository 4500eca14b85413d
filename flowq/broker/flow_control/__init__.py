"""What slows a stage down: rate limits per key, pauses, and full edges behind it.

Decides nothing about single messages: those wait, and are settled on the path."""
