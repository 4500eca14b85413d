"""The only loops and clocks: consumers, settlers, leases, and the processes they run in."""
