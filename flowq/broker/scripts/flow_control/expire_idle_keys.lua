-- Expire idle rate-limit keys, a step at a time.
--
-- Promise: a message of an expired key may start when it could have started anyway: a whole burst is saved up. An
-- adaptive key expires only `keep` after that, and not while it is held; its pace is forgotten with it, so that it
-- restarts at the rate.
--
-- Answer {cursor for the next step, looked at, expired}

check_permissions(COMMANDS)
local ASKED_KEPT = 3600000000 -- microseconds: a handler that has asked for a pace asks again before that

local limiter = next_limiter()
local keep = next_numbers(1)
local cursor, most = next_arguments(2)
if not limiter.adaptive then keep = 0 end

local next_cursor, found = unpack(redis.call('HSCAN', limiter.rate, cursor, 'COUNT', most))
local expired = 0
for i = 1, #found, 2 do
  local key = found[i]
  local interval, is_asked = interval_of(limiter, key)
  local burst_saved_at = number_of(found[i + 1]) + (limiter.limits_of(key).burst - 1) * interval
  local is_idle = burst_saved_at + math.max(keep, is_asked and ASKED_KEPT or 0) <= now_us()
  if is_idle and not (limiter.adaptive and redis.call('ZSCORE', limiter.held_until, key)) then
    redis.call('HDEL', limiter.rate, key)
    redis.call('HDEL', limiter.starts, key)
    if limiter.adaptive or is_asked then redis.call('HDEL', limiter.pace, key, '\n' .. key) end
    expired = expired + 1
  end
end
return {next_cursor, #found / 2, expired}, expired > 0
