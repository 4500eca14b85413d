"""The web page as a Starlette application: its routes, and what they share."""
