"""What several shards and their servers show of one pipeline, put together as if it had only one shard.

Shards are asked at the same time, and how their answers are put together is pure. Nothing here changes anything.
"""
