-- Pause a pipeline or some of its stages, or resume them.
--
-- Promise: a pause lasts until it is ended, across restarts, and keeps the time at which it began. Even when memory is
-- full a pipeline can be paused.
--
-- ARGV  pause (1) or resume (0), then names of stages, or * for all of them. Answer: how many have changed

check_permissions(COMMANDS)
local paused, pauses = KEYS[1], ARGV[1] == '1'
allow_when_full(paused)
local changed = 0
for i = 2, #ARGV do
  if pauses then
    changed = changed + redis.call('HSETNX', paused, ARGV[i], string.format('%.0f', now_ms()))
  else
    changed = changed + redis.call('HDEL', paused, ARGV[i])
  end
end
return changed
