"""What several shards show of one pipeline, put together. Pure, except for `overview_reading` and `primaries`."""
