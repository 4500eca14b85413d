"""What a pipeline was fed and what came of it, in a file: written by one test, for others to compare with.

Files hold JSON, with masked secrets; nothing here knows how a pipeline is run."""
