-- Forget workers that are gone and have left nothing behind.
--
-- Promise: what crashed workers were working on is forgotten with the last death record, in the same step: a worker
-- that crashes meanwhile comes either before it, and keeps its suspects, or after it.

local workers, deaths, suspects = unpack(KEYS)
redis.call('HDEL', workers, unpack(ARGV))
redis.call('HDEL', deaths, unpack(ARGV))
if redis.call('HLEN', deaths) == 0 then redis.call('DEL', suspects) end
return 1
