"""Background tasks of a process: leases, reclaims, delayed messages, clocks, pauses.

Nothing per message."""
