-- Forget workers that are gone and have left nothing behind.
--
-- Promise: what crashed workers were working on is forgotten with the last death record, in the same step: a worker
-- that crashes meanwhile comes either before it, and keeps its suspects, or after it.

check_permissions(COMMANDS)
local workers, records, suspects, deaths = unpack(KEYS)
for _, worker in ipairs(ARGV) do
  local facts, how = redis.call('HGET', workers, worker), redis.call('HGET', records, worker)
  redis.call('HDEL', workers, worker)
  redis.call('HDEL', records, worker)
  note_death(deaths, worker, facts, how or LEASE_ENDED)
end
if redis.call('HLEN', records) == 0 then redis.call('DEL', suspects) end
return 1
