"""Typed values to bytes and back: the codec, its proofs, and compression.

What does not arrive equal is refused here."""
