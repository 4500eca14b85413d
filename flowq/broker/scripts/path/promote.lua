-- Move delayed messages that are due back to their streams.
--
-- Promise: a message is in the delayed set or in the stream, never in both or neither. Time is the server's.
-- The removals come first: Redis allows them when memory is full, and then the rest of the script passes.
--
-- KEYS  for each edge: stream, delayed, parked
-- ARGV  most to move per edge
-- Answer {moved, milliseconds until the next one is due or -1}

local wrong = misplaced({}, {'stream', 'zset', 'hash'})
if wrong then return wrong end

local LONGEST_MS = 86400000 -- anybody may have written a score that no reply can carry
local limit = tonumber(ARGV[1])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local moved, next_ms = 0, -1
for k = 1, #KEYS, 3 do
  local stream, delayed, parked = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now_ms, 'LIMIT', 0, limit)
  if #due > 0 then
    local denied = unpermitted()
    if denied then return denied end
    local bodies = redis.call('HMGET', parked, unpack(due))
    redis.call('ZREM', delayed, unpack(due))
    redis.call('HDEL', parked, unpack(due))
    for i = 1, #due do
      local value = bodies[i]
      if value and append_parked(stream, value) then
        moved = moved + 1
      elseif value then
        park(delayed, parked, now_ms, due[i], value)
      end
    end
  end
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait_ms = math.min(math.max(0, first[2] - now_ms), LONGEST_MS)
    if next_ms < 0 or wait_ms < next_ms then next_ms = wait_ms end
  end
end
return {moved, next_ms}, moved > 0
