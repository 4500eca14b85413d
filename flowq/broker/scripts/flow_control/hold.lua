-- Hold a key: no message of it is started before the hold is over.
--
-- Promise: while a hold lasts it is only ever made longer, for all workers at once. One that is asked for when the last
-- is over, and nobody has succeeded since, is a repeat: it lasts twice as long as the last, up to `longest`.
--
-- KEYS  1 held (key -> millisecond of the end)  2 holds (key -> how long in ms, repeats, who tries it or -, the reason)
-- ARGV  key, milliseconds from now, longest in ms when doubled, reason
-- Answer: milliseconds until it is over

redis.call('ZREM', KEYS[1], '') -- first, because Redis allows a removal when memory is full: the rest passes then
local key, asked, longest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local held = tonumber(redis.call('ZSCORE', KEYS[1], key) or -1)
local last_ms, repeats = string.match(redis.call('HGET', KEYS[2], key) or '0 0 - ', '^(%S+) (%S+)')
last_ms, repeats = number_of(last_ms), math.min(number_of(repeats), 1000000)
local lasts_ms = math.max(asked, last_ms)
if held >= 0 and held <= now_ms then
  repeats = repeats + 1
  lasts_ms = math.max(asked, math.min(math.max(2 * last_ms, 1), longest))
end
local until_ms = math.max(held, now_ms + (held > now_ms and asked or lasts_ms))
redis.call('ZADD', KEYS[1], until_ms, key)
redis.call('HSET', KEYS[2], key, string.format('%.0f %d - ', lasts_ms, repeats) .. ARGV[4])
return math.min(until_ms - now_ms, 1e15)
