-- Move messages from an edge to the one that replaces it, a step at a time.
--
-- Promise: a message is on the old edge or on the new one, never on both or neither, and the balance of both is right
-- after every step. Nothing moves while a worker lives that may be working on it. One that was taken for dead and wakes
-- up late is no longer registered, as after a reclaim, and its messages are gone: its settlement changes nothing. The
-- same step again moves what is left. A removal comes first: Redis allows it when memory is full, and then the rest
-- passes.
--
-- Answer {moved}, {-1, consumer} if it lives, {-2} if there are unknown consumers

check_permissions(COMMANDS)
local group, edge, new_edge = next_arguments(3)
local most = next_numbers(1)
local workers, stats = next_keys('hash', 'hash')
local from, to = next_edge(), next_edge()

local known = {}
for i = 5, #ARGV do
  local consumer, lease = next_arguments(1), next_keys('string')
  known[consumer] = true
  if redis.call('EXISTS', lease) == 1 then return {-1, consumer} end
end
local _, consumers = pending_summary(from.stream, group)
for _, consumer in ipairs(consumers) do
  if not known[consumer[1]] then return {-2} end
end
for consumer in pairs(known) do redis.call('HDEL', workers, consumer) end

allow_when_full(workers)
local counted, moved, stopped_by = 0, 0, nil
for _, entry in ipairs(redis.call('XRANGE', from.stream, '-', '+', 'COUNT', most)) do
  local id, fields = entry[1], entry[2]
  if not append(to.stream, fields) then
    stopped_by = 'at the last entry of ' .. to.stream
    break
  end
  attempt('XACK', from.stream, group, id)
  redis.call('XDEL', from.stream, id)
  if is_counted(fields) then counted = counted + 1 end
  moved = moved + 1
end
local due = not stopped_by and moved < most and redis.call('ZRANGE', from.delayed, 0, most - moved - 1, 'WITHSCORES') or {}
for i = 1, #due, 2 do
  local name, due_ms, value = due[i], due[i + 1], redis.call('HGET', from.bodies, due[i])
  redis.call('ZREM', from.delayed, name)
  redis.call('HDEL', from.bodies, name)
  if value then
    if redis.call('ZSCORE', to.delayed, name) then name = name .. ':moved' end -- one that was copied by hand
    delay(to, due_ms, name, value)
    counted = counted + 1
  end
  moved = moved + 1
end
increment(stats, 'in:' .. new_edge, counted)
increment(stats, 'in:' .. edge, -counted)
if stopped_by then return {-1, stopped_by} end
return {moved}
