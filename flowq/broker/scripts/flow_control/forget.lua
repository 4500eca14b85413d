-- Forget pacing keys that mean nothing any more, a step at a time.
--
-- Promise: a key that is forgotten gets the turns that it would have got anyway: its last one lies so far back that a
-- whole burst is saved up. Where paces adapt, a key is forgotten `keep` after that and not while it is held, and its
-- pace with it: it begins again at the rate.
--
-- KEYS  1 rate  2 held  3 pace  4 starts
-- ARGV  interval in microseconds, burst, concurrency, keep in microseconds (0 where nothing adapts), cursor, how many
--       to look at, for each key with figures of its own: key, interval, burst, concurrency
-- Answer {cursor for the next step, looked at, forgotten}

local ASKED_KEPT = 3600000000 -- microseconds: a pace that a handler has asked for, which asks again before that

local function spare_of(i) return {interval = tonumber(ARGV[i]), bursts = tonumber(ARGV[i + 1]) - 1} end

local common, own, keep = spare_of(1), {}, tonumber(ARGV[4])
for i = 7, #ARGV, 4 do own[ARGV[i]] = spare_of(i + 1) end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local found = redis.call('HSCAN', KEYS[1], ARGV[5], 'COUNT', ARGV[6])
local fields, forgotten = found[2], 0
for i = 1, #fields, 2 do
  local key = fields[i]
  local figures = own[key] or common
  local asked = number_of(redis.call('HGET', KEYS[3], '\n' .. key))
  local interval = math.max(figures.interval, asked, keep > 0 and number_of(redis.call('HGET', KEYS[3], key)) or 0)
  local kept_until = number_of(fields[i + 1]) + figures.bursts * interval + math.max(keep, asked > 0 and ASKED_KEPT or 0)
  local means_nothing = kept_until <= now
  if means_nothing and not (keep > 0 and redis.call('ZSCORE', KEYS[2], key)) then
    redis.call('HDEL', KEYS[1], key)
    redis.call('HDEL', KEYS[4], key)
    if keep > 0 or asked > 0 then redis.call('HDEL', KEYS[3], key, '\n' .. key) end
    forgotten = forgotten + 1
  end
end
return {found[1], #fields / 2, forgotten}, forgotten > 0
