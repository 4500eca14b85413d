-- Hold a key: no message of it is started before the hold is over.
--
-- Promise: a hold is only ever made longer, for all workers at once.
--
-- KEYS  1 held
-- ARGV  key, milliseconds from now

local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local held = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not held or tonumber(held) < until_ms then redis.call('ZADD', KEYS[1], until_ms, ARGV[1]) end
return 1
