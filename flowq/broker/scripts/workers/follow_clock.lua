-- Notice when the clock of Redis has been set back, and set back with it what lies in the future.
--
-- Promise: whatever was due a while after the latest time that was seen is due that while after now, in one step, and
-- once whoever calls. Steps up to `bound` are let pass: clocks are corrected all the time. HDEL comes first because
-- Redis allows it when memory is full, and then the rest passes.
--
-- KEYS  1 clock; then, to correct what was found: sorted sets of milliseconds, hashes of microseconds, queues, leases,
--       and what means nothing any more
-- ARGV  bound in ms, number of sorted sets, of hashes, of queues, of leases
-- Answer: by how many ms the clock has been set back, 0 when it has not. Nothing is corrected when only the clock is
-- given.

local LONGEST_MS = 1e12 -- somebody else has written there

local wrong = misplaced({'hash'})
if wrong then return wrong end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local latest_ms = number_of(redis.call('HGET', KEYS[1], 'latest_ms'))
local step_ms = latest_ms - now_ms

local function note()
  redis.call('HDEL', KEYS[1], '')
  redis.call('HSET', KEYS[1], 'latest_ms', string.format('%.0f', now_ms))
end

if step_ms <= tonumber(ARGV[1]) or step_ms > LONGEST_MS then
  if step_ms < 0 or step_ms > LONGEST_MS then note() end
  return 0, false
end
if #KEYS == 1 then return step_ms, false end
note()

-- What has been set back ranks below all that has not been yet, so that ranks tell how far this is.
local function set_back_scores(key)
  local done = redis.call('ZCOUNT', key, '-inf', now_ms)
  repeat
    local members = redis.call('ZRANGE', key, done, done + 999)
    for _, member in ipairs(members) do redis.call('ZINCRBY', key, -step_ms, member) end
    done = done + #members
  until #members == 0
end

local function set_back_values(key)
  local values = redis.call('HGETALL', key)
  for i = 1, #values, 2 do
    local us = number_of(values[i + 1])
    if us > now_ms * 1000 then redis.call('HSET', key, values[i], string.format('%.0f', us - step_ms * 1000)) end
  end
end

-- Who queues later must not overtake for as long as the step was.
local function set_back_queue(key)
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local before, us, after = string.match(member, '^([^\n]*\n)(%d+)(\n.*)$')
    if us and number_of(us) > now_ms * 1000 then
      redis.call('ZREM', key, member)
      redis.call('ZADD', key, 0, before .. string.format('%016.0f', number_of(us) - step_ms * 1000) .. after)
    end
  end
end

local function set_back_lease(key)
  local left_ms = redis.call('PTTL', key)
  if left_ms > step_ms then redis.call('PEXPIRE', key, left_ms - step_ms) end
end

local k = 2
for kind, set_back in ipairs({set_back_scores, set_back_values, set_back_queue, set_back_lease}) do
  local wanted = ({'zset', 'hash', 'zset', 'string'})[kind]
  for _ = 1, tonumber(ARGV[kind + 1]) do
    if redis.call('TYPE', KEYS[k]).ok == wanted then set_back(KEYS[k]) end
    k = k + 1
  end
end
while k <= #KEYS do
  redis.call('DEL', KEYS[k])
  k = k + 1
end
return step_ms
