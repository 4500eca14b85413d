-- Take over what a dead worker has left pending on one edge.
--
-- Promise: never from a worker whose lease lives (or has changed since it was last looked at), never from oneself.
-- The step that claims also removes the registration, which is what a worker that wakes up late will notice.
--
-- KEYS  1 workers  2 lease of the dead  3 stream
-- ARGV  group, the dead worker, this worker, most to claim, the lease last seen ('' for none)
-- Answer {0} refused, {1, entries} claimed, {2} nothing left, its name is removed

local lease = redis.call('GET', KEYS[2])
if lease and lease ~= ARGV[5] then return {0} end
if redis.call('HEXISTS', KEYS[1], ARGV[3]) == 0 then return {0} end
redis.call('HDEL', KEYS[1], ARGV[2])
if lease then redis.call('DEL', KEYS[2]) end
local pending = redis.call('XPENDING', KEYS[3], ARGV[1], '-', '+', ARGV[4], ARGV[2])
if #pending == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[3], ARGV[1], ARGV[2])
  return {2}
end
local ids = {}
for i = 1, #pending do ids[i] = pending[i][1] end
return {1, redis.call('XCLAIM', KEYS[3], ARGV[1], ARGV[3], 0, unpack(ids))}
