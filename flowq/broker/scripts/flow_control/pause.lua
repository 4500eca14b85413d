-- Pause a pipeline or some of its stages, or have them go on.
--
-- Promise: a pause lasts until it is taken back, whatever is restarted meanwhile, and the moment at which it began stays.
-- HDEL comes first because Redis allows it when memory is full, and then the rest passes.
--
-- KEYS  1 paused
-- ARGV  pause (1) or go on (0), then what: names of stages, or * for all of them
-- Answer: the number of those that were not so before

redis.call('HDEL', KEYS[1], '')
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local changed = 0
for i = 2, #ARGV do
  if ARGV[1] == '1' then
    changed = changed + redis.call('HSETNX', KEYS[1], ARGV[i], now_ms)
  else
    changed = changed + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return changed
