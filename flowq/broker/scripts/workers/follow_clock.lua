-- Detect that the clock of Redis was set back, and move back with it all times in the future.
--
-- Promise: whatever was due a while after the latest time that was seen is due that while after now, in one step, and
-- once however many workers call. Steps up to `bound` are ignored: clocks are corrected all the time.
--
-- KEYS  clock; then, to correct what was found: sorted sets of milliseconds, hashes of microseconds, queues, leases,
--       what stages have seen, and keys that lose their meaning
-- Answer: by how many ms the clock was set back, 0 when it was not. Nothing is corrected when only the clock is given.

check_permissions(COMMANDS)
local LONGEST_MS = 1e12 -- another program has written there

local bound_ms = next_numbers(1)
local clock = next_keys('hash')
local step_ms = number_of(redis.call('HGET', clock, 'latest_ms')) - now_ms()

local function record()
  allow_when_full(clock)
  redis.call('HSET', clock, 'latest_ms', string.format('%.0f', now_ms()))
end

if step_ms <= bound_ms or step_ms > LONGEST_MS then
  if step_ms < 0 or step_ms > LONGEST_MS then record() end
  return 0, false
end
if #KEYS == 1 then return step_ms, false end
record()

-- Members that were moved back rank below all that were not, so that ranks tell how far this is.
local function move_back_scores(key)
  local done = redis.call('ZCOUNT', key, '-inf', now_ms())
  repeat
    local members = redis.call('ZRANGE', key, done, done + 999)
    for _, member in ipairs(members) do redis.call('ZINCRBY', key, -step_ms, member) end
    done = done + #members
  until #members == 0
end

local function move_back_values(key)
  local values = redis.call('HGETALL', key)
  for i = 1, #values, 2 do
    local us = number_of(values[i + 1])
    if us > now_ms() * 1000 then redis.call('HSET', key, values[i], string.format('%.0f', us - step_ms * 1000)) end
  end
end

-- Messages that queue later must not overtake for as long as the step was.
local function move_back_queue(key)
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local before, us, after = string.match(member, '^([^\n]*\n)(%d+)(\n.*)$')
    if us and number_of(us) > now_ms() * 1000 then
      redis.call('ZREM', key, member)
      redis.call('ZADD', key, 0, before .. string.format('%016.0f', number_of(us) - step_ms * 1000) .. after)
    end
  end
end

-- The moments in buckets are those of a clock that was never set back.
local function move_back_seen(key)
  local before, set_back_ms, after = string.match(redis.call('HGET', key, 'about') or '', '^(%d+ %d+ %d+ [01] )(%d+)( .*)$')
  if not before then return end
  redis.call('HSET', key, 'about', before .. string.format('%.0f', number_of(set_back_ms) + step_ms) .. after)
end

local function move_back_lease(key)
  local left_ms = redis.call('PTTL', key)
  if left_ms > step_ms then redis.call('PEXPIRE', key, left_ms - step_ms) end
end

local k = 2
local function for_next_keys(n, wanted, move_back)
  for _ = 1, n do
    if redis.call('TYPE', KEYS[k]).ok == wanted then move_back(KEYS[k]) end
    k = k + 1
  end
end
local n_scores, n_values, n_queues, n_leases, n_seen = next_numbers(5)
for_next_keys(n_scores, 'zset', move_back_scores)
for_next_keys(n_values, 'hash', move_back_values)
for_next_keys(n_queues, 'zset', move_back_queue)
for_next_keys(n_leases, 'string', move_back_lease)
for_next_keys(n_seen, 'hash', move_back_seen)
for last = k, #KEYS do redis.call('DEL', KEYS[last]) end
return step_ms
