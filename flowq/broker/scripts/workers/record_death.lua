-- Tell everybody that a worker's process is gone, and how it went.
--
-- Promise: from this step on nobody waits for its lease, nor for the slots of pacing keys that it had. DEL comes first
-- because Redis allows it when memory is full; the HSET that follows then passes as well.
--
-- KEYS  1 death records  2 lease  3 workers
-- ARGV  worker, how it went

redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
