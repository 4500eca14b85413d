"""Runs sources: arguments in, messages and cursors out, in bulk.

Sources run beside the stages, in the loop or in threads."""
