-- Record which deliveries of a stage with rate limits have finished: free their slots, adapt the pace of their keys, and
-- end holds.
--
-- Promise: the same call again frees nothing twice. When the message that probed a held key has finished, without
-- asking for another hold, the hold is over.
--
-- The pace of a key follows Scrapy's AutoThrottle: an answer moves the time between starts halfway to its latency
-- divided by the concurrency, or all the way when that is longer. A failure doubles it; a rejection never lowers it.
--
-- Verdicts: o done  r rejected  f failed  h holds its key  n not run
-- Answer: those of the keys for which messages queue

check_permissions(COMMANDS)
local limiter = next_limiter()
local longest = next_numbers(1)
local queue = next_keys('zset')
allow_when_full(limiter.rate)

local function adapt(key, took, verdict)
  local limits = limiter.limits_of(key)
  local interval = limits.interval
  local pace = math.max(interval, number_of(redis.call('HGET', limiter.pace, key)))
  local target = took / math.max(limits.concurrency, 1)
  local new = math.max(target, (pace + target) / 2)
  if verdict == 'f' or verdict == 'h' then new = math.max(target, 2 * pace) end
  if verdict == 'r' then new = math.max(new, pace) end
  new = math.min(new, math.max(longest, interval))
  if new <= interval then
    redis.call('HDEL', limiter.pace, key)
  else
    redis.call('HSET', limiter.pace, key, string.format('%.0f', new))
    redis.call('HSETNX', limiter.rate, key, string.format('%.0f', now_us())) -- expire_idle_keys.lua looks for both there
  end
end

local keys = {}
for i = next_range(0), #ARGV, 5 do
  local key, worker, message, took, verdict = unpack(ARGV, i, i + 4)
  redis.call('ZREM', limiter.slots, key .. '\n' .. worker .. '\n' .. message)
  if limiter.adaptive and verdict ~= 'n' then adapt(key, took, verdict) end
  if verdict ~= 'h' and prober_of(limiter, key) == worker .. '|' .. message then
    if verdict == 'n' then
      set_prober(limiter, key, '-')
    else
      end_hold(limiter, key)
    end
  end
  keys[key] = true
end
local answer = {}
for key in pairs(keys) do
  if redis.call('ZLEXCOUNT', queue, range_of(key)) > 0 then answer[#answer + 1] = key end
end
return answer
