"""The world of the scraping example: real sites, a server with faults, an oracle."""
