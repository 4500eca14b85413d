"""`flowq run`: one session with its workers, from the first line to the exit code.

The worker process that it starts is here too."""
