-- Transfer to a stage or source what is known of the one that it replaces: its counters, its rate limits, its cursor and
-- whether it has finished. What it has seen is transferred by move_seen.lua.
--
-- Promise: nothing is counted twice, and the same call again changes nothing.
--
-- KEYS  ..., then pairs of keys, old and new. The new stage may have run before: then of two values its own wins, and the
--       later of two moments.

check_permissions(COMMANDS)
local stats, failures, paused, cursors, run = next_keys('hash', 'hash', 'hash', 'hash', 'hash')
local held_until, new_held_until = next_keys('zset', 'zset')
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

local function merge(key, new_key, unite)
  if redis.call('EXISTS', key) == 0 then return end
  if redis.call('EXISTS', new_key) == 0 then
    redis.call('RENAME', key, new_key)
  else
    unite(key, new_key)
    redis.call('DEL', key)
  end
end

local function unite_moments(key, new_key) redis.call('ZUNIONSTORE', new_key, 2, key, new_key, 'AGGREGATE', 'MAX') end

local function unite_hashes(key, new_key)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    redis.call('HSETNX', new_key, field, redis.call('HGET', key, field))
  end
end

merge(held_until, new_held_until, unite_moments)
for k = 8, #KEYS, 2 do merge(KEYS[k], KEYS[k + 1], unite_hashes) end
return 1
