-- Go on behind a gap: entries of an outbox that were removed because this shard was certain to have applied them, which
-- it has forgotten since. What is lost is counted, since nothing can bring it back.
--
-- Promise: done once, and only if the cursor is still where the gap was found.
-- Answer {the cursor as stored}

local inbox, stats = next_keys('hash', 'hash')
local from, gap_at, behind, total = next_arguments(4)
local id, got = position_of(redis.call('HGET', inbox, from) or nil)
id, got = id or NO_ID, got or 0
if id ~= gap_at then return {id .. ' ' .. got} end
check_permissions({'HDEL', 'HINCRBY', 'HSET'})
allow_when_full(stats)
local cursor = behind .. ' ' .. total
redis.call('HSET', inbox, from, cursor)
increment(stats, 'lost:' .. from, math.max(0, total - got))
return {cursor}
