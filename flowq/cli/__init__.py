"""The command line. Each command is imported when it is called.

Nothing below imports it, and only it knows the terminal."""
