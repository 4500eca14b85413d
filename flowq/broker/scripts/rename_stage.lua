-- Give a stage what is known of the one whose place it has taken: its counters, what it has seen, its pacing.
--
-- Promise: nothing is counted twice, and the same again changes nothing.
--
-- KEYS  1 stats  2 paused  3 seen  4 new seen, then pairs of keys, old and new, of which the new one wins if it exists
-- ARGV  stage, new stage, then for each edge: its name and the new one
-- Answer 1

local function move(field, new_field)
  local n = tonumber(redis.call('HGET', KEYS[1], field) or 0)
  redis.call('HDEL', KEYS[1], field)
  if n ~= 0 then redis.call('HINCRBY', KEYS[1], new_field, n) end
end

for _, what in ipairs({'ok:', 'filtered:', 'dead:', 'retries:', 'released:', 'out:'}) do
  move(what .. ARGV[1], what .. ARGV[2])
end
for i = 3, #ARGV, 2 do
  move('in:' .. ARGV[i], 'in:' .. ARGV[i + 1])
  move('duplicates:' .. ARGV[i], 'duplicates:' .. ARGV[i + 1])
end
local since = redis.call('HGET', KEYS[2], ARGV[1])
if since then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HSETNX', KEYS[2], ARGV[2], since)
end
if redis.call('EXISTS', KEYS[4]) == 0 then
  if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[4]) end
else
  redis.call('SUNIONSTORE', KEYS[4], KEYS[4], KEYS[3])
  redis.call('DEL', KEYS[3])
end
for k = 5, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[k]) == 1 then redis.call('RENAMENX', KEYS[k], KEYS[k + 1]) end
end
return 1
