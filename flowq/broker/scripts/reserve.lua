-- Give each message its turn: under the rate of its key, the number of that key that may run at once, and its hold.
--
-- Promise, over all workers together: the turns of one key lie at least `interval` apart, but for `burst` at once after
-- a pause; no more than `concurrency` of them have a slot; none lies within a hold, and after a hold one message alone
-- tries the key before the others go on. Whoever must wait for a turn is told how long, once: the turn is reserved, and
-- the message comes back at that time with the reservation in its header. Whoever must wait for others, for a slot or
-- for the end of a hold, is told to queue, and is called when its time has come (call.lua). A slot belongs to its
-- worker's registration: it lapses when that is gone. The rule of turns is the generic cell rate algorithm
-- (ITU-T I.371), which needs one number per key. A key may have figures of its own, which hold instead of the common ones.
--
-- KEYS  1 rate (key -> microsecond of its next turn)  2 held (key -> millisecond until which it is held)  3 holds
--       4 busy  5 pace (key -> microseconds between turns that it can bear)  6 workers
-- ARGV  interval in microseconds, burst, concurrency (0: no limit), adaptive (1/0), worker, how soon a turn must come
--       for its slot to be taken now, in microseconds, number of keys with figures of their own, for each of these:
--       key, interval, burst, concurrency; then for each message: key, has a reservation (1/0), edge|entry id
-- Answer for each message: microseconds to wait, -1 to queue, or -2 - microseconds for the one that tries a held key

local function figures_at(i)
  return {interval = tonumber(ARGV[i]), burst = tonumber(ARGV[i + 1]), concurrency = tonumber(ARGV[i + 2])}
end

local common, own = figures_at(1), {}
local adaptive, worker, soon = ARGV[4] == '1', ARGV[5], tonumber(ARGV[6])
local first_message = 8 + 4 * tonumber(ARGV[7])
for i = 8, first_message - 1, 4 do own[ARGV[i]] = figures_at(i + 1) end
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
local function state_of(key)
  local state = states[key]
  if state then return state end
  state = {turn = number_of(redis.call('HGET', KEYS[1], key)), held = redis.call('ZSCORE', KEYS[2], key)}
  local figures = own[key] or common
  state.burst, state.limited = figures.burst, figures.concurrency > 0
  state.interval = math.max(figures.interval, adaptive and number_of(redis.call('HGET', KEYS[5], key)) or 0)
  state.free = state.limited and free_slots(key, figures.concurrency) or 1
  if state.held then
    local prober = string.match(redis.call('HGET', KEYS[3], key) or '', '^%S+ %S+ (%S+)') or '-'
    local owner = string.match(prober, '^(.-)|')
    state.tried = owner and redis.call('HEXISTS', KEYS[6], owner) == 1
  end
  states[key] = state
  return state
end

for i = first_message, #ARGV, 3 do
  local key, reserved, slot = ARGV[i], ARGV[i + 1] == '1', ARGV[i + 2]
  local state = state_of(key)
  local waits = state.free <= 0 or (state.held and (state.tried or tonumber(state.held) * 1000 > now))
  if waits then
    answer[#answer + 1] = -1
  else
    local wait = 0
    if not reserved then
      local turn = math.max(state.turn, now - (state.burst - 1) * state.interval)
      wait = math.max(0, turn - now)
      -- A pace that changes must not have been promised far ahead.
      if adaptive and wait > math.max(100000, 2 * state.interval) then
        wait = -1
      else
        state.turn, state.moved = turn + state.interval, true
      end
    end
    local starts = wait >= 0 and wait <= soon
    if state.limited and starts then
      redis.call('ZADD', KEYS[4], 0, key .. '\n' .. worker .. '\n' .. slot)
      state.free = state.free - 1
    end
    if state.held and starts then
      local hold = redis.call('HGET', KEYS[3], key) or '0 0 - '
      local prober = worker .. '|' .. slot
      redis.call('HSET', KEYS[3], key, (string.gsub(hold, '^(%S+ %S+) %S+', function(head) return head .. ' ' .. prober end)))
      state.tried, wait = true, -2 - wait
    end
    answer[#answer + 1] = wait
  end
end
for key, state in pairs(states) do
  if state.moved then redis.call('HSET', KEYS[1], key, string.format('%.0f', state.turn)) end
end
return answer
