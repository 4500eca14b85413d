"""What each page shows.

Reads only, and never more than a bounded part of what is in Redis."""
