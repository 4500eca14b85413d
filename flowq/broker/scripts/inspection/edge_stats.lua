-- Look at the edges themselves: what waits longest, who has what, how much memory they take.
--
-- Promise: nothing is changed, and only ids leave Redis, never a body.
--
-- KEYS  for each edge: stream, delayed, parked
-- ARGV  group
-- Answer for each edge {id of the oldest waiting entry or '', when the last delayed message is due or '', bytes,
--        {consumer, how many it has, ...}}

local answer = {}

local function bytes(key)
  local used = attempt('MEMORY', 'USAGE', key)
  return type(used) == 'number' and used or 0
end

for i = 1, #KEYS, 3 do
  local oldest = redis.call('XRANGE', KEYS[i], '(' .. last_delivered(KEYS[i], ARGV[1]), '+', 'COUNT', 1)[1]
  local last_due = redis.call('ZRANGE', KEYS[i + 1], -1, -1, 'WITHSCORES')[2]
  local pending = attempt('XPENDING', KEYS[i], ARGV[1])
  local held = {}
  for _, consumer in ipairs(pending.err == nil and pending[4] or {}) do
    held[#held + 1] = consumer[1]
    held[#held + 1] = tonumber(consumer[2])
  end
  answer[#answer + 1] = {
    oldest and oldest[1] or '', last_due or '', bytes(KEYS[i]) + bytes(KEYS[i + 1]) + bytes(KEYS[i + 2]), held,
  }
end
return answer
