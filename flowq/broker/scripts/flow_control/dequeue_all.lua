-- Let delayed messages stop queueing for their keys: they are due now.
--
-- Promise: none is forgotten: a message that has left the queue is due.
--
-- KEYS  queue, for each edge: delayed
-- ARGV  most to move, the edges. Answer: number removed from the queue

local queue, most = KEYS[1], next_numbers(1)
local delayed_of = {}
for i = 2, #ARGV do delayed_of[ARGV[i]] = KEYS[i] end
local members = redis.call('ZRANGE', queue, 0, most - 1)
for _, member in ipairs(members) do
  local edge, name = string.match(member, '\n([^\n]*)\n([^\n]*)$')
  redis.call('ZREM', queue, member)
  if edge and delayed_of[edge] then redis.call('ZADD', delayed_of[edge], 'XX', now_ms(), name) end
end
return #members
