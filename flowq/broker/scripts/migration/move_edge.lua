-- Move messages from an edge to the one that has taken its place, a step at a time.
--
-- Promise: a message is on the old edge or on the new one, never on both or neither, and after every step both add up.
-- Nothing is moved while a worker that may be at it lives. One that was taken for dead and wakes up late finds itself
-- unregistered, as after a reclaim, and what it was at gone: its settlement changes nothing. The same step again moves
-- what is left. A removal comes first: Redis allows it when memory is full, and then the rest passes.
--
-- KEYS  1 workers  2 stats  3 stream  4 delayed  5 parked  6 new stream  7 new delayed  8 new parked,
--       then for each consumer known: its lease
-- ARGV  group, edge, new edge, most to move, then for each consumer known: its name
-- Answer {moved}, {-1, consumer} when it lives, {-2} when there are others than those known

local wrong = misplaced({'hash', 'hash', 'stream', 'zset', 'hash', 'stream', 'zset', 'hash'})
if wrong then return wrong end

local group, edge, new_edge, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local stats, stream, delayed, parked = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local known = {}
for i = 5, #ARGV do
  known[ARGV[i]] = true
  if redis.call('EXISTS', KEYS[i + 4]) == 1 then return {-1, ARGV[i]} end
end
local pending = attempt('XPENDING', stream, group)
for _, consumer in ipairs(pending.err == nil and pending[4] or {}) do
  if not known[consumer[1]] then return {-2} end
end
for name in pairs(known) do redis.call('HDEL', KEYS[1], name) end

redis.call('HDEL', KEYS[1], '')
local counted, moved, stopped_by = 0, 0, nil
for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', limit)) do
  local id, fields = entry[1], entry[2]
  if not append(KEYS[6], fields) then
    stopped_by = 'the one that works at the end of ' .. KEYS[6]
    break
  end
  attempt('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  if is_counted(fields) then counted = counted + 1 end
  moved = moved + 1
end
local due = not stopped_by and moved < limit and redis.call('ZRANGE', delayed, 0, limit - moved - 1, 'WITHSCORES') or {}
for i = 1, #due, 2 do
  local name, value = due[i], redis.call('HGET', parked, due[i])
  redis.call('ZREM', delayed, name)
  redis.call('HDEL', parked, name)
  if value then
    if redis.call('ZSCORE', KEYS[7], name) then name = name .. ':moved' end -- one that was copied by hand
    redis.call('ZADD', KEYS[7], due[i + 1], name)
    redis.call('HSET', KEYS[8], name, value)
    counted = counted + 1
  end
  moved = moved + 1
end
if counted > 0 then
  increase(stats, 'in:' .. new_edge, counted)
  increase(stats, 'in:' .. edge, -counted)
end
if stopped_by then return {-1, stopped_by} end
return {moved}
