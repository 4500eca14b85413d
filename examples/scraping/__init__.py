"""The scraping example: real sites, a server with faults, an oracle."""
