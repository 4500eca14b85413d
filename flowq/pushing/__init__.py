"""How a program's messages are appended to the inlet of a stage, in one shard or in several.

No policy and no encoding: what comes here is an output, and a stage that accepts it."""
