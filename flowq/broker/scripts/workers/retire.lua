-- Remove a worker that stops.
--
-- Promise: its name disappears from every edge on which nothing is pending for it. Where something is, the name stays,
-- and a death record lets the others reclaim it without waiting for the lease.
--
-- Answer: number of edges on which messages are still pending

check_permissions(COMMANDS)
local workers, deaths, lease = next_keys('hash', 'hash', 'string')
local group, worker, how = next_arguments(3)
redis.call('HDEL', workers, worker)
redis.call('DEL', lease)
local left = 0
for k = 4, #KEYS do
  local pending = attempt('XPENDING', KEYS[k], group, '-', '+', 1, worker)
  if #pending > 0 then left = left + 1 end
  if #pending == 0 and not pending.err then redis.call('XGROUP', 'DELCONSUMER', KEYS[k], group, worker) end
end
if left > 0 then redis.call('HSET', deaths, worker, how) end
return left
