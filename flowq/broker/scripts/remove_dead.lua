-- Remove dead letters for good.
--
-- Promise: a letter goes with its amendment in one step. The counters stay: it has died in this run.
--
-- KEYS  1 dead  2 amended
-- ARGV  ids
-- Answer: number removed

local removed = redis.call('XDEL', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
return removed
