"""Values in, text out: tables, screens and lines.

No Redis, no loop over anything but rows."""
