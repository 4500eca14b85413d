"""The words and numbers with which the terminal and the web page describe a pipeline.

Values in, text out; reads nothing itself."""
