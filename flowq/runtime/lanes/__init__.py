"""What one process runs for each shard of a pipeline that it serves, and which shards those are.

No loop over messages: that is in the stages."""
