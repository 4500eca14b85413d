"""The flights example: its data, and an oracle for the result."""
