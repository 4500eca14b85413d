-- Give a stage or source what is known of the one whose place it has taken: its counters, what it has seen and until
-- when that is remembered, its pacing, where it goes on and whether it has finished.
--
-- Promise: nothing is counted twice, and the same again changes nothing.
--
-- KEYS  1 stats  2 paused  3 cursors  4 run  5 seen  6 new seen  7 seen until  8 new seen until,
--       then pairs of keys, old and new, of which the new one wins if it exists
-- ARGV  stage, new stage, then for each edge: its name and the new one
-- Answer 1

local function move(field, new_field)
  local n = number_of(redis.call('HGET', KEYS[1], field))
  redis.call('HDEL', KEYS[1], field)
  if n ~= 0 then increase(KEYS[1], new_field, n) end
end

for _, what in ipairs({'ok:', 'filtered:', 'dead:', 'retries:', 'released:', 'out:'}) do
  move(what .. ARGV[1], what .. ARGV[2])
end
for i = 3, #ARGV, 2 do
  move('in:' .. ARGV[i], 'in:' .. ARGV[i + 1])
  move('duplicates:' .. ARGV[i], 'duplicates:' .. ARGV[i + 1])
end
local function rename(key, field, new_field)
  local value = redis.call('HGET', key, field)
  if value then
    redis.call('HDEL', key, field)
    redis.call('HSETNX', key, new_field, value)
  end
end

rename(KEYS[2], ARGV[1], ARGV[2])
rename(KEYS[4], 'source:' .. ARGV[1], 'source:' .. ARGV[2])
rename(KEYS[4], 'runner:' .. ARGV[1], 'runner:' .. ARGV[2])
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
  local name, arguments = string.match(field, '^(%S+)(.*)$')
  if name == ARGV[1] then rename(KEYS[3], field, ARGV[2] .. arguments) end
end

local function merge(key, new_key, union, ...)
  if redis.call('EXISTS', new_key) == 0 then
    if redis.call('EXISTS', key) == 1 then redis.call('RENAME', key, new_key) end
  else
    redis.call(union, new_key, ...)
    redis.call('DEL', key)
  end
end

merge(KEYS[5], KEYS[6], 'SUNIONSTORE', KEYS[5], KEYS[6])
merge(KEYS[7], KEYS[8], 'ZUNIONSTORE', 2, KEYS[7], KEYS[8], 'AGGREGATE', 'MAX')
for k = 9, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[k]) == 1 then redis.call('RENAMENX', KEYS[k], KEYS[k + 1]) end
end
return 1
