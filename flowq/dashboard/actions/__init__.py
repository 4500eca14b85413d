"""What a user may do on a page.

Each action is confirmed first, and recorded in the audit afterwards."""
