-- Reserve starts for messages, within the limits of their keys: rate, concurrency and holds.
--
-- Promise, over all workers together: the starts of one key are at least `interval` apart, but for `burst` at once after
-- a pause; no more than `concurrency` of them have a slot; none is within a hold, and after a hold one message alone
-- probes the key before the others start. The algorithm is the generic cell rate algorithm (ITU-T I.371), which needs
-- one number per key and ledger. There are two:
--
-- `starts` is the time before which no other message may start. Only a message that starts moves it, so that a
-- standstill (of workers, Redis, the clock) saves up no more than a burst.
-- `rate` is the time at which the next message that must wait should ask again: the end of the line.
--
-- A message that asks again may reserve a start up to `PATIENCE` ahead, one that asks for the first time only one that
-- is `soon`. So those that have waited go first, and others use what would be lost until they ask again. A message that
-- asks again and finds no start within `PATIENCE` goes to the end of the line. A missed start is returned, unless
-- later starts of the key were reserved: then it is lost. A message that must wait for a slot or for the end of a hold
-- queues until it is woken (dequeue.lua). A slot belongs to the registration of its worker and ends with it. So an
-- unregistered worker gets none, and its messages ask again: it was taken for dead, and other workers may have them. A
-- worker that asks again for a message that has a slot keeps the slot.
--
-- `lead`: the first start may be so many microseconds from now, because the answer takes that long.
-- ARGV  ..., for each message: key, whether it asks again (0, 1, or the microsecond of the start that it has missed),
--       edge|entry id
-- Answer, for each message: s start  t start alone, to probe a held key  b ask again  q queue; after how many
--         microseconds. Then the microsecond of this answer: a worker that receives it late can tell which starts have
--         passed

check_permissions(COMMANDS)
local PATIENCE = 2000000
local REGISTERED_SOON = 500000 -- by when a worker that was taken for dead has another name

local limiter = next_limiter()
local worker = next_arguments(1)
local soon, lead = next_numbers(2)
local first_message = next_range(0)
allow_when_full(limiter.rate)
local is_registered = redis.call('HEXISTS', limiter.workers, worker) == 1

local states = {}
local function state_of(key)
  local state = states[key]
  if state then return state end
  local limits, interval = limiter.limits_of(key), interval_of(limiter, key)
  state = {burst = limits.burst, interval = interval, is_limited = limits.concurrency > 0, free = 1}
  -- No start was ever reserved further ahead than this: the clock was set back, or the interval was longer.
  local latest = now_us() + PATIENCE + interval
  state.start = math.min(latest, number_of(redis.call('HGET', limiter.starts, key)))
  state.end_of_line = math.max(state.start, number_of(redis.call('HGET', limiter.rate, key)))
  if state.is_limited then
    local taken = redis.call('ZLEXCOUNT', limiter.slots, range_of(key))
    if taken >= limits.concurrency then taken = taken_slots(limiter, key) end
    state.free = limits.concurrency - taken
  end
  state.held_until_ms = redis.call('ZSCORE', limiter.held_until, key)
  if state.held_until_ms then state.prober, state.is_probed = prober_of(limiter, key) end
  states[key] = state
  return state
end

local function let_probe(key, state, prober)
  set_prober(limiter, key, prober)
  state.prober, state.is_probed = prober, prober ~= '-'
end

-- What a message does, and after how long. Moves the ledgers of its key.
local function reserve(state, asks_again)
  local start = math.max(state.start, now_us() + lead - (state.burst - 1) * state.interval)
  if start - now_us() <= (asks_again and PATIENCE or soon) then
    state.start, state.has_moved = start + state.interval, true
    state.end_of_line = math.max(state.end_of_line, state.start)
    return 's', math.max(lead, start - now_us())
  end
  local ask_at = math.max(state.end_of_line, now_us())
  -- A pace that changes must not have been promised far ahead.
  if limiter.adaptive and ask_at - now_us() > math.max(100000, 2 * state.interval) then return 'q', 0 end
  state.end_of_line, state.has_moved = ask_at + state.interval, true
  return 'b', ask_at - now_us()
end

-- A key whose last start was missed returns to where it was before. The latest first: several in a row may be missed.
for i = #ARGV - 2, first_message, -3 do
  local missed = tonumber(ARGV[i + 1])
  if missed > 1 then
    local state = state_of(ARGV[i])
    if state.start - state.interval <= missed then
      state.start = math.max(state.start - state.interval, missed - (state.burst - 1) * state.interval)
      state.has_moved = true
    end
  end
end

local answer = {}
for i = first_message, #ARGV, 3 do
  local key, again, message = unpack(ARGV, i, i + 2)
  local state, slot, prober = state_of(key), key .. '\n' .. worker .. '\n' .. message, worker .. '|' .. message
  local has_slot = state.is_limited and redis.call('ZSCORE', limiter.slots, slot)
  local probes = state.held_until_ms and state.prober == prober
  local is_held = state.held_until_ms and (tonumber(state.held_until_ms) * 1000 > now_us() or (state.is_probed and not probes))
  local what, wait = 'q', 0
  if not is_registered then
    what, wait = 'b', REGISTERED_SOON
  elseif not is_held and (has_slot or state.free > 0) then
    what, wait = reserve(state, again ~= '0')
  end
  local starts = what == 's'
  if state.is_limited and starts and not has_slot then
    redis.call('ZADD', limiter.slots, 0, slot)
    state.free = state.free - 1
  elseif has_slot and not starts then
    redis.call('ZREM', limiter.slots, slot)
    state.free = state.free + 1
  end
  if state.held_until_ms and starts then
    if not probes then let_probe(key, state, prober) end
    what = 't'
  elseif probes then
    let_probe(key, state, '-')
  end
  answer[#answer + 1], answer[#answer + 2] = what, wait
end
for key, state in pairs(states) do
  if state.has_moved then
    redis.call('HSET', limiter.rate, key, string.format('%.0f', state.end_of_line))
    redis.call('HSET', limiter.starts, key, string.format('%.0f', state.start))
  end
end
answer[#answer + 1] = now_us()
return answer
