"""One stage apart from its pipeline: called once, with the errors that a test expects of it.

Nothing here needs a server, a clock or a seed."""
