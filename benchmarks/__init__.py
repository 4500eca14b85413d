"""Measures flowq beside two yardsticks, a plain loop and a hand-written limit, in the same run."""
