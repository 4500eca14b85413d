-- Give each message its turn under the rate limit of its key.
--
-- Promise: over all workers together, the turns of one key lie at least `interval` apart, but for `burst` at once after
-- a pause, and none lies within a hold. A message that must wait is told how long, once: its turn is reserved, and it
-- comes back at that time with the reservation in its header instead of asking again. The rule is the generic cell
-- rate algorithm (ITU-T I.371), which needs one number per key.
--
-- KEYS  1 rate (key -> microsecond of its next turn)  2 held (key -> millisecond until which it is held)
-- ARGV  interval in microseconds, burst, for each message: key, has a reservation (1/0)
-- Answer: microseconds to wait, for each message

local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local next_turn, held_until, answer = {}, {}, {}
for i = 3, #ARGV, 2 do
  local key, reserved = ARGV[i], ARGV[i + 1] == '1'
  if not next_turn[key] then
    next_turn[key] = tonumber(redis.call('HGET', KEYS[1], key) or 0)
    held_until[key] = tonumber(redis.call('ZSCORE', KEYS[2], key) or 0) * 1000
  end
  if reserved and held_until[key] <= now then
    answer[#answer + 1] = 0
  else
    local turn = math.max(next_turn[key], held_until[key], now - (burst - 1) * interval)
    next_turn[key] = turn + interval
    answer[#answer + 1] = math.max(0, turn - now)
  end
end
for key, turn in pairs(next_turn) do
  if turn > 0 then redis.call('HSET', KEYS[1], key, string.format('%.0f', turn)) end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now / 1000)
return answer
