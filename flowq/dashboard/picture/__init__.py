"""The graph of a pipeline as SVG, with places for the numbers that change.

Drawn once for each plan; knows no numbers."""
