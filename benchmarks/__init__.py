"""Compares flowq with two baselines in the same run: a plain loop and a hand-written limit."""
