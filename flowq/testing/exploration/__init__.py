"""Tries a pipeline under random schedules and faults, and shrinks what fails: by itself, or by means of hypothesis.

It knows the harness and the faults, and may not know how the simulation carries them out.
"""
