"""What slows a stage down: rate limits per key, pauses, and full edges after it.

Decides nothing about single messages: those wait, and are settled on the path."""
