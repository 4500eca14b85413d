"""Who may see a page or do something: token, cookie, host, origin, and the headers of every answer.

Knows no pipeline."""
