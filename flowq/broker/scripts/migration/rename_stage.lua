-- Transfer to a stage or source what is known of the one that it replaces: its counters, the messages it has seen and
-- until when they are remembered, its rate limits, its cursor and whether it has finished.
--
-- Promise: nothing is counted twice, and the same call again changes nothing.
--
-- KEYS  ..., then pairs of keys, old and new: the new one wins if it exists

local stats, failures, paused, cursors, run, seen, new_seen, seen_until, new_seen_until =
  next_keys('hash', 'hash', 'hash', 'hash', 'hash', 'set', 'set', 'zset', 'zset')
local stage, new_stage = next_arguments(2)

local function move(kind, name, new_name)
  local n = number_of(redis.call('HGET', stats, kind .. name))
  redis.call('HDEL', stats, kind .. name)
  increment(stats, kind .. new_name, n)
end

for _, kind in ipairs({'ok:', 'filtered:', 'dead:', 'purged:', 'retries:', 'released:', 'out:'}) do
  move(kind, stage, new_stage)
end
for _ = 3, #ARGV, 2 do
  local edge, new_edge = next_arguments(2)
  move('in:', edge, new_edge)
  move('duplicates:', edge, new_edge)
end

for _, field in ipairs(redis.call('HKEYS', failures)) do
  local name, error = string.match(field, '^failure (%S+) (%S+)$')
  if name == stage then
    local n, last = string.match(redis.call('HGET', failures, field), '^(%d+) (.*)$')
    if n then add_failures(failures, new_stage, error, n, last) end
    redis.call('HDEL', failures, field)
  end
end
redis.call('HDEL', failures, 'kinds ' .. stage)

local function rename(key, field, new_field)
  local value = redis.call('HGET', key, field)
  if value then
    redis.call('HDEL', key, field)
    redis.call('HSETNX', key, new_field, value)
  end
end

rename(paused, stage, new_stage)
rename(run, 'source:' .. stage, 'source:' .. new_stage)
rename(run, 'runner:' .. stage, 'runner:' .. new_stage)
for _, field in ipairs(redis.call('HKEYS', cursors)) do
  local name, arguments = string.match(field, '^(%S+)(.*)$')
  if name == stage then rename(cursors, field, new_stage .. arguments) end
end

local function merge(key, new_key, union, ...)
  if redis.call('EXISTS', new_key) == 0 then
    if redis.call('EXISTS', key) == 1 then redis.call('RENAME', key, new_key) end
  else
    redis.call(union, new_key, ...)
    redis.call('DEL', key)
  end
end

merge(seen, new_seen, 'SUNIONSTORE', seen, new_seen)
merge(seen_until, new_seen_until, 'ZUNIONSTORE', 2, seen_until, new_seen_until, 'AGGREGATE', 'MAX')
for k = 10, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[k]) == 1 then redis.call('RENAMENX', KEYS[k], KEYS[k + 1]) end
end
return 1
