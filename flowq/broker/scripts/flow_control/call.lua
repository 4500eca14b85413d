-- Take note of what has finished in a stage with pacing keys, and call those who queue for what is thereby free.
--
-- Promise: who is called moves from the delayed messages to its stream in this step. The same call again gives nothing
-- back twice. A queue that nobody else would call is found by a sweep. When the message that tried a held key has
-- finished, without asking for another hold, the hold is over.
--
-- The pace of a key follows Scrapy's AutoThrottle: an answer moves the time between turns halfway to its latency
-- divided by the concurrency, or all the way when that is longer. A failure doubles it; a rejection never lowers it.
--
-- KEYS  1 held  2 holds  3 busy  4 pace  5 workers  6 queue  7 rate, then for each edge: stream, delayed, parked
-- ARGV  interval in microseconds, burst, concurrency (0: no limit), adaptive (1/0), longest pace in microseconds,
--       sweep (1/0), most to call for each key, number of edges, number of finished, the edges,
--       number of keys with figures of their own, for each of these: key, interval, burst, concurrency,
--       for each finished: key, worker, edge|entry id, microseconds it took,
--                          o done  r rejected  f failed  h holds its key  n interrupted,
--       then further keys to look at
-- Answer: the keys of which more could be called

local wrong = misplaced({}, {'stream', 'zset', 'hash'}, 8)
if wrong then return wrong end
redis.call('ZREM', KEYS[6], '') -- first, because Redis allows a removal when memory is full: the rest passes then

local function figures_at(i) return {interval = tonumber(ARGV[i]), concurrency = tonumber(ARGV[i + 2])} end

local common, own, adaptive = figures_at(1), {}, ARGV[4] == '1'
local longest, sweep, most = tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local n_edges, n_finished = tonumber(ARGV[8]), tonumber(ARGV[9])
local edges = {}
for i = 1, n_edges do edges[ARGV[9 + i]] = 3 * i + 5 end
local first_own = 11 + n_edges
local first_finished = first_own + 4 * tonumber(ARGV[first_own - 1])
for i = first_own, first_finished - 1, 4 do own[ARGV[i]] = figures_at(i + 1) end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function figures_of(key) return own[key] or common end

local function range_of(key) return '[' .. key .. '\n', '(' .. key .. '\11' end

local function prober_of(key) return string.match(redis.call('HGET', KEYS[2], key) or '', '^%S+ %S+ (%S+)') or '-' end

local function free_slots(key)
  local first, last = range_of(key)
  local taken = 0
  for _, slot in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], first, last)) do
    local owner = string.match(slot, '\n([^\n]*)\n[^\n]*$')
    if owner and redis.call('HEXISTS', KEYS[5], owner) == 1 then
      taken = taken + 1
    else
      redis.call('ZREM', KEYS[3], slot)
    end
  end
  return figures_of(key).concurrency - taken
end

local function adapt(key, took, verdict)
  local interval, concurrency = figures_of(key).interval, figures_of(key).concurrency
  local pace = math.max(interval, number_of(redis.call('HGET', KEYS[4], key)))
  local target = took / math.max(concurrency, 1)
  local new = math.max(target, (pace + target) / 2)
  if verdict == 'f' or verdict == 'h' then new = math.max(target, 2 * pace) end
  if verdict == 'r' then new = math.max(new, pace) end
  new = math.min(new, math.max(longest, interval))
  if new <= interval then
    redis.call('HDEL', KEYS[4], key)
  else
    redis.call('HSET', KEYS[4], key, string.format('%.0f', new))
    redis.call('HSETNX', KEYS[7], key, string.format('%.0f', now_ms * 1000)) -- forget.lua looks for both there
  end
end

-- As many as may have their turns reserved now: see reserve.lua.
local function turns_ahead(key)
  local now = time[1] * 1000000 + time[2]
  local asked = number_of(redis.call('HGET', KEYS[4], '\n' .. key))
  local pace = math.max(figures_of(key).interval, asked, number_of(redis.call('HGET', KEYS[4], key)))
  local turn = math.max(now, number_of(redis.call('HGET', KEYS[7], key)))
  return math.max(0, math.floor((now + math.max(100000, 2 * pace) - turn) / pace) + 1)
end

local function may_call(key)
  local held = redis.call('ZSCORE', KEYS[1], key)
  if held then
    local owner = string.match(prober_of(key), '^(.-)|')
    local tried = owner and redis.call('HEXISTS', KEYS[5], owner) == 1
    if tried or tonumber(held) > now_ms then return 0 end
    return 1
  end
  local n = most
  if figures_of(key).concurrency > 0 then n = math.min(n, free_slots(key)) end
  if adaptive then n = math.min(n, turns_ahead(key)) end
  return n
end

local look_at = {}
local first_named = first_finished + 5 * n_finished
for i = first_finished, first_named - 1, 5 do
  local key, slot, took, verdict = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  redis.call('ZREM', KEYS[3], key .. '\n' .. ARGV[i + 1] .. '\n' .. slot)
  if adaptive and verdict ~= 'n' then adapt(key, took, verdict) end
  if verdict ~= 'h' and prober_of(key) == ARGV[i + 1] .. '|' .. slot then
    if verdict == 'n' then
      redis.call('HSET', KEYS[2], key, (string.gsub(redis.call('HGET', KEYS[2], key), '^(%S+ %S+) %S+', '%1 -')))
    else
      redis.call('ZREM', KEYS[1], key)
      redis.call('HDEL', KEYS[2], key)
    end
  end
  look_at[key] = true
end
for i = first_named, #ARGV do look_at[ARGV[i]] = true end
if sweep then
  local from = '-'
  for _ = 1, 1000 do
    local first = redis.call('ZRANGEBYLEX', KEYS[6], from, '+', 'LIMIT', 0, 1)[1]
    if not first then break end
    local key = string.match(first, '^([^\n]*)')
    look_at[key] = true
    from = '(' .. key .. '\11'
  end
  -- A hold that nobody tries to end, for all its messages have ended otherwise, is over at last.
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms - 60000, 'LIMIT', 0, 100)) do
    local owner = string.match(prober_of(key), '^(.-)|')
    if not (owner and redis.call('HEXISTS', KEYS[5], owner) == 1) then
      redis.call('ZREM', KEYS[1], key)
      redis.call('HDEL', KEYS[2], key)
    end
  end
end

local more = {}
for key in pairs(look_at) do
  local first, last = range_of(key)
  if redis.call('ZLEXCOUNT', KEYS[6], first, last) > 0 then
    local n = may_call(key)
    local called = n > 0 and redis.call('ZRANGEBYLEX', KEYS[6], first, last, 'LIMIT', 0, n) or {}
    for _, member in ipairs(called) do
      local edge, name = string.match(member, '\n([^\n]*)\n([^\n]*)$')
      local k = edge and edges[edge]
      redis.call('ZREM', KEYS[6], member)
      local value = k and redis.call('HGET', KEYS[k + 2], name)
      if value then
        redis.call('ZREM', KEYS[k + 1], name)
        redis.call('HDEL', KEYS[k + 2], name)
        if not append_parked(KEYS[k], value) then park(KEYS[k + 1], KEYS[k + 2], now_ms, name, value) end
      end
    end
    if #called == most then more[#more + 1] = key end
  end
end
return more
