-- Measure edges: their oldest waiting message, which worker has how many messages, how much memory they occupy.
--
-- Promise: nothing is changed, and only ids leave Redis, never a body.
--
-- Answer for each edge {id of the oldest waiting entry or '', when the last delayed message is due or '', bytes,
--        {consumer, how many it has, ...}}

local group = next_arguments(1)
local answer = {}

local function bytes(...)
  local sum = 0
  for _, key in ipairs({...}) do
    local used = attempt('MEMORY', 'USAGE', key)
    if type(used) == 'number' then sum = sum + used end
  end
  return sum
end

for k = 1, #KEYS, 3 do
  local stream, delayed, bodies = unpack(KEYS, k, k + 2)
  local oldest = redis.call('XRANGE', stream, '(' .. last_delivered(stream, group), '+', 'COUNT', 1)[1]
  local last_due = redis.call('ZRANGE', delayed, -1, -1, 'WITHSCORES')[2]
  local _, consumers = pending_summary(stream, group)
  local owned = {}
  for _, consumer in ipairs(consumers) do
    owned[#owned + 1], owned[#owned + 2] = consumer[1], tonumber(consumer[2])
  end
  answer[#answer + 1] = {oldest and oldest[1] or '', last_due or '', bytes(stream, delayed, bodies), owned}
end
return answer
