"""Tries a pipeline under random schedules and faults, and shrinks what fails to a short story.

It knows the harness and the faults, and may not know how the simulation carries them out.
"""
