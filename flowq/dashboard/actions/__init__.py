"""What a user may do on a page.

Each action is confirmed before, and has a line in the audit log after."""
