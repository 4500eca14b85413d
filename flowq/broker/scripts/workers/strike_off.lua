-- Strike off workers that are gone and have left nothing behind.
--
-- Promise: what crashed workers were at is forgotten with the last death record, and in the same step: a worker that
-- crashes meanwhile is either before it, and keeps its suspects, or after it.
--
-- KEYS  1 workers  2 death records  3 suspects
-- ARGV  workers
-- Answer 1

redis.call('HDEL', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
if redis.call('HLEN', KEYS[2]) == 0 then redis.call('DEL', KEYS[3]) end
return 1
