-- Register a worker, or renew its lease.
--
-- Promise: the lease lives for another `ttl` from now, and the answer tells whether the worker is registered: a worker
-- whose messages have been reclaimed is not, and must take a new name. PEXPIRE comes first because Redis allows it
-- when memory is full; the SET that follows then passes as well.
--
-- `heartbeat` changes with every renewal; `info` is JSON, '' to renew only. Answer 1 or 0

check_permissions(COMMANDS)
local workers, lease = unpack(KEYS)
local worker, ttl_ms, heartbeat, info = next_arguments(4)
redis.call('PEXPIRE', lease, ttl_ms)
redis.call('SET', lease, heartbeat, 'PX', ttl_ms)
if info ~= '' then redis.call('HSET', workers, worker, info) end
return redis.call('HEXISTS', workers, worker)
