-- What the scripts of the rate limiter share. Each key of a stage has an interval, a burst and a concurrency (0: no
-- limit). Times and intervals are in microseconds.

-- The keys and limits of a stage, from the next keys and arguments:
-- KEYS  rate and starts (see reserve.lua), held and holds (see hold.lua), busy (slots: key, worker, message),
--       pace (key -> adaptive interval; line break and key -> interval that a handler has asked for), workers
-- ARGV  adaptive (1/0), interval, burst, concurrency, number of keys with limits of their own, for each of these: key,
--       interval, burst, concurrency
local function next_limiter()
  local limiter = {adaptive = next_numbers(1) == 1}
  limiter.rate, limiter.starts, limiter.held_until, limiter.hold_info, limiter.slots, limiter.pace, limiter.workers =
    next_keys('hash', 'hash', 'zset', 'hash', 'zset', 'hash', 'hash')
  local function next_limits()
    local interval, burst, concurrency = next_numbers(3)
    return {interval = interval, burst = burst, concurrency = concurrency}
  end
  local common, own = next_limits(), {}
  for _ = 1, next_numbers(1) do
    local key = next_arguments(1)
    own[key] = next_limits()
  end
  limiter.limits_of = function(key) return own[key] or common end
  return limiter
end

-- The time between starts of a key: the longest of its own, the one that a handler has asked for, and the adaptive one.
-- The second value tells whether a handler has asked for one.
local function interval_of(limiter, key)
  local asked = number_of(redis.call('HGET', limiter.pace, '\n' .. key))
  local adaptive = limiter.adaptive and number_of(redis.call('HGET', limiter.pace, key)) or 0
  return math.max(limiter.limits_of(key).interval, asked, adaptive), asked > 0
end

-- The range of the members of a key in the sorted set of slots, or of queued messages.
local function range_of(key) return '[' .. key .. '\n', '(' .. key .. '\11' end

-- Whether a slot belongs to a registered worker. Removes it otherwise.
local function is_taken(limiter, slot)
  local worker = string.match(slot, '\n([^\n]*)\n[^\n]*$')
  if worker and redis.call('HEXISTS', limiter.workers, worker) == 1 then return true end
  redis.call('ZREM', limiter.slots, slot)
  return false
end

-- How many slots of a key are taken.
local function taken_slots(limiter, key)
  local first, last = range_of(key)
  local taken = 0
  for _, slot in ipairs(redis.call('ZRANGEBYLEX', limiter.slots, first, last)) do
    if is_taken(limiter, slot) then taken = taken + 1 end
  end
  return taken
end

-- The worker and message that probes a held key, '-' if there is none, and whether this worker is registered.
local function prober_of(limiter, key)
  local prober = string.match(redis.call('HGET', limiter.hold_info, key) or '', '^%S+ %S+ (%S+)') or '-'
  local worker = string.match(prober, '^(.-)|')
  return prober, worker ~= nil and redis.call('HEXISTS', limiter.workers, worker) == 1
end

local function set_prober(limiter, key, prober)
  local length, repeats, reason =
    string.match(redis.call('HGET', limiter.hold_info, key) or '0 0 - ', '^(%S+) (%S+) %S+(.*)$')
  if length then redis.call('HSET', limiter.hold_info, key, length .. ' ' .. repeats .. ' ' .. prober .. reason) end
end

local function end_hold(limiter, key)
  redis.call('ZREM', limiter.held_until, key)
  redis.call('HDEL', limiter.hold_info, key)
end
