"""Dead and kept messages: lists, fixes, removes and retries them, and traces their relatives.

Used by programs and by the command line. Shows nothing itself."""
