"""Compares the crawl of a whole site by flowq and by Scrapy."""
