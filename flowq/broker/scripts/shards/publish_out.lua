-- Add messages to edges from outside, some of them to edges of other shards.
--
-- Promise: as of publish.lua, which this is, with the outboxes of this shard as further edges: all of a call or nothing,
-- and once. A call that is repeated puts nothing.
--
-- KEYS and ARGV as of publish.lua, then as of take_outboxes
-- Answer as of publish.lua, without the messages for other shards; a call that adds something also gets a list with what was
--        put into each outbox: id, id before it, messages sent up to it; {-2} if this shard has another layout: nothing
--        was changed

local outboxes = take_outboxes()
if not outboxes then return {-2} end

--[[ the script ]]
return {1, n_all - duplicates, duplicates, 1, put_entries(outboxes, stats, source)}
