-- Sign a worker off.
--
-- Promise: its name disappears from every edge on which nothing is pending for it. Where something still is, the name
-- stays and a death record lets the others reclaim it without waiting for the lease.
--
-- KEYS  1 workers  2 death records  3 lease, then the streams
-- ARGV  group, worker, how it went
-- Answer: number of edges on which messages are still pending

redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[3])
local left = 0
for k = 4, #KEYS do
  local pending = attempt('XPENDING', KEYS[k], ARGV[1], '-', '+', 1, ARGV[2])
  if pending.err == nil then
    if #pending == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[k], ARGV[1], ARGV[2])
    else
      left = left + 1
    end
  end
end
if left > 0 then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
return left
