-- Record that the process of a worker is gone, and how it ended.
--
-- Promise: from this step on no other worker waits for its lease, nor for its slots of pacing keys. DEL comes first
-- because Redis allows it when memory is full; the HSET that follows then passes as well.

local deaths, lease, workers = next_keys('hash', 'string', 'hash')
local worker, how = next_arguments(2)
redis.call('DEL', lease)
redis.call('HDEL', workers, worker)
redis.call('HSET', deaths, worker, how)
return 1
