-- Give each message its turn: under the rate of its key, the number of that key that may run at once, and its hold.
--
-- Promise, over all workers together: the starts of one key lie at least `interval` apart, but for `burst` at once after
-- a pause; no more than `concurrency` of them have a slot; none lies within a hold, and after a hold one message alone
-- tries the key before the others go on. A key may have figures of its own, which hold instead of the common ones. The
-- rule is the generic cell rate algorithm (ITU-T I.371), which needs one number per key and ledger. There are two:
--
-- `starts` is the time before which no more may start. Only a message that starts moves it, so that what stood still
-- (workers, Redis, the clock) can save up no more than a burst, however many turns have passed meanwhile.
-- `rate` is the time at which the next message that must wait shall come back: the end of the line.
--
-- Whoever comes back may be given a start that is `PATIENCE` away, whoever comes for the first time only one that is
-- there `soon`. This is what lets those go first who have waited, and lets others use what would otherwise be lost while
-- those who have waited are not back yet. Whoever comes back and finds no start within `PATIENCE` goes to the end of the
-- line. A start that was missed is given back, unless others of the key have been given later ones: then it is lost. Whoever must wait for others, for a slot or for the end of a hold, is told to queue, and is called when its time
-- has come (call.lua). A slot belongs to its worker's registration: it lapses when that is gone. So a worker that is not
-- registered is given none, and its messages come back: it was taken for dead, and others may have them already. A
-- worker that asks again for a message that has a slot keeps it.
--
-- KEYS  1 rate (key -> microsecond)  2 held (key -> millisecond until which it is held)  3 holds
--       4 busy  5 pace (key -> microseconds between turns that it can bear; with a line break before it: that a
--       handler has asked for)  6 workers  7 starts (key -> microsecond)
-- ARGV  interval in microseconds, burst, concurrency (0: no limit), adaptive (1/0), worker, how soon a start must be
--       for a message that comes for the first time, in microseconds, how many microseconds from now the first start
--       may be (the answer takes that long), number of keys with figures of their own, for each of these: key,
--       interval, burst, concurrency; then for each message: key, whether it comes back (0, 1, or the microsecond of the
--       start that it has missed), edge|entry id
-- Answer, for each message, what to do and after how many microseconds: s start  t start, alone, to try a held key
--                                                                       b come back  q queue
--         and at last the microsecond at which it was given: who gets it late can tell which starts are over

local PATIENCE = 2000000
local REGISTERED_SOON = 500000 -- by when a worker that was taken for dead has another name

local function figures_at(i)
  return {interval = tonumber(ARGV[i]), burst = tonumber(ARGV[i + 1]), concurrency = tonumber(ARGV[i + 2])}
end

local common, own = figures_at(1), {}
local adaptive, worker, soon, lead = ARGV[4] == '1', ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local first_message = 9 + 4 * tonumber(ARGV[8])
for i = 9, first_message - 1, 4 do own[ARGV[i]] = figures_at(i + 1) end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function free_slots(key, concurrency)
  local first, last = '[' .. key .. '\n', '(' .. key .. '\11'
  local taken = redis.call('ZLEXCOUNT', KEYS[4], first, last)
  if taken < concurrency then return concurrency - taken end
  for _, slot in ipairs(redis.call('ZRANGEBYLEX', KEYS[4], first, last)) do
    local owner = string.match(slot, '\n([^\n]*)\n[^\n]*$')
    if not owner or redis.call('HEXISTS', KEYS[6], owner) == 0 then
      redis.call('ZREM', KEYS[4], slot)
      taken = taken - 1
    end
  end
  return concurrency - taken
end

redis.call('ZREM', KEYS[4], '') -- first, because Redis allows a removal when memory is full: the rest passes then
local states, answer = {}, {}
local is_registered = redis.call('HEXISTS', KEYS[6], worker) == 1
local function state_of(key)
  local state = states[key]
  if state then return state end
  local figures = own[key] or common
  state = {burst = figures.burst, limited = figures.concurrency > 0}
  local asked = number_of(redis.call('HGET', KEYS[5], '\n' .. key)) -- by a handler: ctx.pace()
  state.interval = math.max(figures.interval, asked, adaptive and number_of(redis.call('HGET', KEYS[5], key)) or 0)
  -- No start was ever given further ahead than this: the clock has been set back, or the interval was longer.
  local latest = now + PATIENCE + state.interval
  state.start = math.min(latest, number_of(redis.call('HGET', KEYS[7], key)))
  state.turn = math.max(state.start, number_of(redis.call('HGET', KEYS[1], key)))
  state.free = state.limited and free_slots(key, figures.concurrency) or 1
  state.held = redis.call('ZSCORE', KEYS[2], key)
  if state.held then
    state.prober = string.match(redis.call('HGET', KEYS[3], key) or '', '^%S+ %S+ (%S+)') or '-'
    local owner = string.match(state.prober, '^(.-)|')
    state.tried = owner and redis.call('HEXISTS', KEYS[6], owner) == 1
  end
  states[key] = state
  return state
end

local function set_prober(key, state, prober)
  local hold = redis.call('HGET', KEYS[3], key) or '0 0 - '
  redis.call('HSET', KEYS[3], key, (string.gsub(hold, '^(%S+ %S+) %S+', function(head) return head .. ' ' .. prober end)))
  state.prober, state.tried = prober, prober ~= '-'
end

-- What a message shall do, and after how long. Moves the ledgers of its key.
local function turn_of(state, comes_back)
  local start = math.max(state.start, now + lead - (state.burst - 1) * state.interval)
  if start - now <= (comes_back and PATIENCE or soon) then
    state.start, state.moved = start + state.interval, true
    state.turn = math.max(state.turn, state.start)
    return 's', math.max(lead, start - now)
  end
  local turn = math.max(state.turn, now)
  -- A pace that changes must not have been promised far ahead.
  if adaptive and turn - now > math.max(100000, 2 * state.interval) then return 'q', 0 end
  state.turn, state.moved = turn + state.interval, true
  return 'b', turn - now
end

-- A key whose last start was missed stands where it stood before. The latest first: several in a row may have been.
for i = #ARGV - 2, first_message, -3 do
  local missed = tonumber(ARGV[i + 1])
  if missed > 1 then
    local state = state_of(ARGV[i])
    if state.start - state.interval <= missed then
      state.start = math.max(state.start - state.interval, missed - (state.burst - 1) * state.interval)
      state.moved = true
    end
  end
end

for i = first_message, #ARGV, 3 do
  local key, comes_back, message = ARGV[i], ARGV[i + 1] ~= '0', ARGV[i + 2]
  local state, slot, prober = state_of(key), key .. '\n' .. worker .. '\n' .. message, worker .. '|' .. message
  local has_slot = state.limited and redis.call('ZSCORE', KEYS[4], slot)
  local tries = state.held and state.prober == prober
  local held = state.held and (tonumber(state.held) * 1000 > now or (state.tried and not tries))
  local what, wait = 'q', 0
  if not is_registered then
    what, wait = 'b', REGISTERED_SOON
  elseif not held and (has_slot or state.free > 0) then
    what, wait = turn_of(state, comes_back)
  end
  local starts = what == 's'
  if state.limited and starts and not has_slot then
    redis.call('ZADD', KEYS[4], 0, slot)
    state.free = state.free - 1
  elseif has_slot and not starts then
    redis.call('ZREM', KEYS[4], slot)
    state.free = state.free + 1
  end
  if state.held and starts then
    if not tries then set_prober(key, state, prober) end
    what = 't'
  elseif tries then
    set_prober(key, state, '-')
  end
  answer[#answer + 1], answer[#answer + 2] = what, wait
end
for key, state in pairs(states) do
  if state.moved then
    redis.call('HSET', KEYS[1], key, string.format('%.0f', state.turn))
    redis.call('HSET', KEYS[7], key, string.format('%.0f', state.start))
  end
end
answer[#answer + 1] = now
return answer
