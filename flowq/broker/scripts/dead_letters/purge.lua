-- Remove messages of one edge that no worker runs: the waiting and the delayed ones.
--
-- Promise: what is removed is counted as purged in the same step, so that the balance adds up.
--
-- Answer: number removed

check_permissions(COMMANDS)
local group, stage, edge_name = next_arguments(3)
local most = next_numbers(1)
local stats = next_keys('hash')
local edge = next_edge()
local removed, foreign = 0, 0
for _, entry in ipairs(redis.call('XRANGE', edge.stream, '(' .. last_delivered(edge.stream, group), '+', 'COUNT', most)) do
  if not is_counted(entry[2]) then foreign = foreign + 1 end
  removed = removed + redis.call('XDEL', edge.stream, entry[1])
end
if removed < most then
  for _, name in ipairs(redis.call('ZRANGE', edge.delayed, 0, most - removed - 1)) do
    redis.call('HDEL', edge.bodies, name)
    removed = removed + redis.call('ZREM', edge.delayed, name)
  end
end
increment(stats, 'in:' .. edge_name, foreign)
increment(stats, 'purged:' .. stage, removed)
return removed
