"""One pipeline over many nodes: the brokers of its shards, what crosses between them, their number on record.

Nothing here is used on the path of a message in a pipeline of one shard."""
