"""Large bodies: a folder or a bucket that holds them, and the references that travel in their place.

Knows no Redis: which bodies are no longer needed, and which store a pipeline uses, is for the broker to say.
"""
