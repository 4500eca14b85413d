-- Write the edges of a plan beside those of earlier plans, and tell what was recorded before.
--
-- Promise: edges of other versions of the pipeline stay on record, so that what lies on them is not forgotten. HDEL comes
-- first because Redis allows it when memory is full, and then the rest passes: whoever comes to drain must be let in.
--
-- KEYS  1 plan
-- ARGV  for each edge: its name, and a JSON object of what it accepts
-- Answer the record as it was: edge, JSON object, ... to which "seen_ms" was added

local before = redis.call('HGETALL', KEYS[1])
local time = redis.call('TIME')
local seen = ',"seen_ms":' .. string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) .. '}'
redis.call('HDEL', KEYS[1], '')
for i = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], string.sub(ARGV[i + 1], 1, -2) .. seen)
end
return before, #ARGV > 0
