-- Hold a key: no message of it starts before the hold is over.
--
-- Promise: while a hold lasts it can only be extended, for all workers at once. A hold that is asked for after the last
-- one has ended, and before a message has succeeded, is a repeat: it lasts twice as long as the last, up to `longest`.
--
-- `held_until`: key -> millisecond of the end. `hold_info`: key -> its length in ms, repeats, prober or -, reason.
-- Answer: milliseconds until it is over

check_permissions(COMMANDS)
local held_until, hold_info = unpack(KEYS)
local key, asked_ms, longest_ms, reason = next_arguments(4)
asked_ms, longest_ms = tonumber(asked_ms), tonumber(longest_ms)
allow_when_full(hold_info)
local end_ms = tonumber(redis.call('ZSCORE', held_until, key) or -1)
local last_ms, repeats = string.match(redis.call('HGET', hold_info, key) or '0 0 - ', '^(%S+) (%S+)')
last_ms, repeats = number_of(last_ms), math.min(number_of(repeats), 1000000)
local length_ms = math.max(asked_ms, last_ms)
if end_ms >= 0 and end_ms <= now_ms() then
  repeats = repeats + 1
  length_ms = math.max(asked_ms, math.min(math.max(2 * last_ms, 1), longest_ms))
end
end_ms = math.max(end_ms, now_ms() + (end_ms > now_ms() and asked_ms or length_ms))
redis.call('ZADD', held_until, end_ms, key)
redis.call('HSET', hold_info, key, string.format('%.0f %d - ', length_ms, repeats) .. reason)
return math.min(end_ms - now_ms(), 1e15)
