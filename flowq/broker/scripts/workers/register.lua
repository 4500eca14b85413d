-- Enter a worker, or renew its lease.
--
-- Promise: the lease lives for another `ttl` from now, and the answer tells whether the worker is registered: a worker
-- whose messages have been reclaimed is not, and must take a new name. PEXPIRE comes first because Redis allows it
-- when memory is full; the SET that follows then passes as well.
--
-- KEYS  1 workers  2 lease
-- ARGV  worker, ttl in ms, beat (changes with every renewal), what it tells of itself ('' to renew only)
-- Answer 1 or 0

redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) end
return redis.call('HEXISTS', KEYS[1], ARGV[1])
