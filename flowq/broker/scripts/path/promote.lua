-- Move delayed messages that are due back to their streams.
--
-- Promise: a message is in the delayed set or in the stream, never in both or neither. The removals come first: Redis
-- allows them when memory is full, and then the rest of the script passes.
--
-- Answer {moved, milliseconds until the next one is due or -1}

local LONGEST_MS = 86400000 -- any program may have written a score that no reply can carry

local limit = next_numbers(1)
local edges = {}
for e = 1, #KEYS / 3 do edges[e] = next_edge() end
local moved, next_ms = 0, -1
for _, edge in ipairs(edges) do
  local due = redis.call('ZRANGEBYSCORE', edge.delayed, '-inf', now_ms(), 'LIMIT', 0, limit)
  if #due > 0 then
    check_permissions({'HDEL', 'HSET', 'SET', 'XADD', 'ZADD', 'ZRANGE'})
    local values = redis.call('HMGET', edge.bodies, unpack(due))
    redis.call('ZREM', edge.delayed, unpack(due))
    redis.call('HDEL', edge.bodies, unpack(due))
    for i, name in ipairs(due) do
      if values[i] and append_or_delay(edge, name, values[i]) then moved = moved + 1 end
    end
  end
  local first_ms = redis.call('ZRANGE', edge.delayed, 0, 0, 'WITHSCORES')[2]
  if first_ms then
    local wait_ms = math.min(math.max(0, first_ms - now_ms()), LONGEST_MS)
    if next_ms < 0 or wait_ms < next_ms then next_ms = wait_ms end
  end
end
return {moved, next_ms}, moved > 0
