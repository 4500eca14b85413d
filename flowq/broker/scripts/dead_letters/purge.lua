-- Remove messages of one edge that nobody works on: those that wait, and those that are delayed.
--
-- Promise: what is removed is counted as purged in the same step, so that the balance adds up. Running messages are
-- left to their workers.
--
-- KEYS  1 stats  2 stream  3 delayed  4 parked
-- ARGV  group, stage, edge, most to remove
-- Answer: number removed

local wrong = misplaced({'hash', 'stream', 'zset', 'hash'})
if wrong then return wrong end
local group, stage, edge, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local removed, foreign = 0, 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. last_delivered(KEYS[2], group), '+', 'COUNT', most)) do
  if not is_counted(entry[2]) then foreign = foreign + 1 end -- no publisher did
  removed = removed + redis.call('XDEL', KEYS[2], entry[1])
end
if removed < most then
  for _, name in ipairs(redis.call('ZRANGE', KEYS[3], 0, most - removed - 1)) do
    redis.call('HDEL', KEYS[4], name)
    removed = removed + redis.call('ZREM', KEYS[3], name)
  end
end
if foreign > 0 then increase(KEYS[1], 'in:' .. edge, foreign) end
if removed > 0 then increase(KEYS[1], 'purged:' .. stage, removed) end
return removed
