-- Add a dead letter for a message that was acknowledged before its handler had finished, and then failed.
--
-- Promise: what was counted as ok is counted as dead instead; the same token twice adds one letter, and answers the same.
-- The first write is a removal: Redis allows it when memory is full, and then the rest of the script passes.

check_permissions(COMMANDS)
local stage, edge, token, token_kept_ms, header, body, reason = next_arguments(7)
local stats, published, dead = next_keys('hash', 'zset', 'stream')
if redis.call('ZSCORE', published, token) then return 1 end
redis.call('ZREMRANGEBYSCORE', published, '-inf', now_ms() - token_kept_ms)
redis.call('ZADD', published, now_ms(), token)
append(dead, letter_of(edge, reason, {'b', body}, header))
increment(stats, 'dead:' .. stage, 1)
increment(stats, 'ok:' .. stage, -1)
return 1
