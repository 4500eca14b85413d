-- Have delayed messages that wait for others of their pacing key wait for their time alone, which is now.
--
-- Promise: none is forgotten: one that has left the queue is due.
--
-- KEYS  1 queue, then for each edge: delayed
-- ARGV  most to call, then the edges
-- Answer: number taken from the queue

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local key_of = {}
for i = 2, #ARGV do key_of[ARGV[i]] = KEYS[i] end
local queued = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
for _, member in ipairs(queued) do
  local edge, name = string.match(member, '\n([^\n]*)\n([^\n]*)$')
  redis.call('ZREM', KEYS[1], member)
  if edge and key_of[edge] then redis.call('ZADD', key_of[edge], 'XX', now_ms, name) end
end
return #queued
