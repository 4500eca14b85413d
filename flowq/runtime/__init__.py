"""The only loops and clocks: what runs stages and sources in worker processes.

At the top: what all rooms share about a run and its processes."""
