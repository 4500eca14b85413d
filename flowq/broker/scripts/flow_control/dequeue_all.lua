-- Let delayed messages of some edges stop queueing for their keys: they are due now. Looks at a part of the queue.
--
-- Promise: none is forgotten: a message that has left the queue is due.
--
-- KEYS  queue, for each edge: delayed
-- ARGV  most to look at, the last one looked at ('' for none), the edges. Answer: the last one looked at, '' at the end

check_permissions(COMMANDS)
local queue, most, last = KEYS[1], unpack(ARGV, 1, 2)
local delayed_of = {}
for i = 3, #ARGV do delayed_of[ARGV[i]] = KEYS[i - 1] end
local members = redis.call('ZRANGEBYLEX', queue, last == '' and '-' or '(' .. last, '+', 'LIMIT', 0, most)
for _, member in ipairs(members) do
  local edge, name = string.match(member, '\n([^\n]*)\n([^\n]*)$')
  if not edge or delayed_of[edge] then redis.call('ZREM', queue, member) end
  if delayed_of[edge or ''] then redis.call('ZADD', delayed_of[edge], 'XX', now_ms(), name) end
end
return members[#members] or ''
