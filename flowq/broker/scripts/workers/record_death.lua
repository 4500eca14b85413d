-- Record that the process of a worker is gone, and how it ended.
--
-- Promise: from this step on no other worker waits for its lease, nor for its slots of pacing keys. DEL comes first
-- because Redis allows it when memory is full; the HSET that follows then passes as well.

check_permissions(COMMANDS)
local records, lease, workers = next_keys('hash', 'string', 'hash')
local deaths = KEYS[4]
local worker, how = next_arguments(2)
local facts = redis.call('HGET', workers, worker)
redis.call('DEL', lease)
redis.call('HDEL', workers, worker)
redis.call('HSET', records, worker, how)
note_death(deaths, worker, facts, how)
return 1
