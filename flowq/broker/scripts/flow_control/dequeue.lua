-- Move messages that queue for their keys back to their streams, as many as may start now.
--
-- Promise: a message moves from the delayed messages to its stream in one step. A sweep finds the queues that no worker
-- would look at otherwise, removes slots of dead workers, and ends holds that no message probes.
--
-- ARGV  ..., the edges, the keys to look at. Answer: the keys that have more to move

check_permissions(COMMANDS)
local MOST_SWEPT, MOST_SLOTS, MOST_HOLDS_ENDED = 1000, 1000, 100
local UNPROBED_MS = 60000 -- after its end: all messages of the hold have ended otherwise

local limiter = next_limiter()
local sweep, most, n_edges = next_numbers(3)
local queue = next_keys('zset')
local edges = {}
for _ = 1, n_edges do edges[next_arguments(1)] = next_edge() end
allow_when_full(limiter.rate)

-- As many as may have their starts reserved now: see reserve.lua.
local function starts_ahead(key)
  local interval = interval_of(limiter, key)
  local next_start = math.max(now_us(), number_of(redis.call('HGET', limiter.rate, key)))
  return math.max(0, math.floor((now_us() + math.max(100000, 2 * interval) - next_start) / interval) + 1)
end

local function n_to_move(key)
  local n, concurrency = most, limiter.limits_of(key).concurrency
  if concurrency > 0 then n = math.min(n, concurrency - taken_slots(limiter, key)) end
  if limiter.adaptive then n = math.min(n, starts_ahead(key)) end
  local held_until_ms = redis.call('ZSCORE', limiter.held_until, key)
  if held_until_ms then
    local _, is_probed = prober_of(limiter, key)
    -- The message that probes needs a slot as well. The one that asked for the hold may still have it: its worker has died.
    n = (is_probed or tonumber(held_until_ms) > now_ms()) and 0 or math.min(n, 1)
  end
  return n
end

local keys = {}
for i = next_range(0), #ARGV do keys[ARGV[i]] = true end
if sweep == 1 then
  local from = '-'
  for _ = 1, MOST_SWEPT do
    local first = redis.call('ZRANGEBYLEX', queue, from, '+', 'LIMIT', 0, 1)[1]
    if not first then break end
    local key = string.match(first, '^([^\n]*)')
    keys[key] = true
    _, from = range_of(key)
  end
  for _, slot in ipairs(redis.call('ZRANGEBYLEX', limiter.slots, '-', '+', 'LIMIT', 0, MOST_SLOTS)) do
    is_taken(limiter, slot) -- removes it if not: no other message may ever ask for a slot of its key
  end
  local over_since = now_ms() - UNPROBED_MS
  local over = redis.call('ZRANGEBYSCORE', limiter.held_until, '-inf', over_since, 'LIMIT', 0, MOST_HOLDS_ENDED)
  for _, key in ipairs(over) do
    local _, is_probed = prober_of(limiter, key)
    if not is_probed then end_hold(limiter, key) end
  end
end

local more = {}
for key in pairs(keys) do
  local first, last = range_of(key)
  local n = redis.call('ZLEXCOUNT', queue, first, last) > 0 and n_to_move(key) or 0
  local members = n > 0 and redis.call('ZRANGEBYLEX', queue, first, last, 'LIMIT', 0, n) or {}
  for _, member in ipairs(members) do
    local edge_name, name = string.match(member, '\n([^\n]*)\n([^\n]*)$')
    local edge = edges[edge_name or '']
    redis.call('ZREM', queue, member)
    local value = edge and redis.call('HGET', edge.bodies, name)
    if value then
      redis.call('ZREM', edge.delayed, name)
      redis.call('HDEL', edge.bodies, name)
      append_or_delay(edge, name, value)
    end
  end
  if #members == most then more[#more + 1] = key end
end
return more
