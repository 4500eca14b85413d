"""Makes up messages, faults and whole runs, with hypothesis: only this room and `strategies` need that.

What it makes up runs in a harness; how a harness works is not its concern."""
