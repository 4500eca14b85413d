"""One stage in one process: reads, slots, batches, pacing, settlement.

Each message passes here once. What runs beside it is in `housekeeping`."""
