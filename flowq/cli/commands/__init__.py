"""One module for each command: its options, and what it does with them.

A command imports no other command."""
