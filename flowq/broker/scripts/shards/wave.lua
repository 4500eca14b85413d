-- Read in one step what a decision about all shards needs of this one.
--
-- Promise: the numbers are of one instant. A message moves between two shards by way of an outbox, so that `heads` of the one
-- is ahead of `inbox` of the other while it is under way.
--
-- KEYS  ..., for each edge: stream, delayed
-- Answer {outstanding messages, heads, inbox, run}

local group = next_arguments(1)
local heads, inbox, run = next_keys('hash', 'hash', 'hash')
local outstanding = 0
for _ = 4, #KEYS, 2 do
  local stream, delayed = next_keys('stream', 'zset')
  local running = pending_summary(stream, group) -- also entries that were deleted by hand while they ran
  outstanding = outstanding + math.max(redis.call('XLEN', stream), running) + redis.call('ZCARD', delayed)
end
return {outstanding, redis.call('HGETALL', heads), redis.call('HGETALL', inbox), redis.call('HGETALL', run)}
