-- Add a dead letter for a message that was acknowledged before its handler had finished, and then failed.
--
-- Promise: what was counted as ok is counted as dead instead; the same token twice adds one letter, and answers the same.
--
-- KEYS  1 stats  2 published  3 dead
-- ARGV  stage, edge, token, token window in ms, header, body, info

local wrong = misplaced({'hash', 'zset', 'stream'})
if wrong then return wrong end
if redis.call('ZSCORE', KEYS[2], ARGV[3]) then return 1 end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- First, because Redis allows a removal when memory is full, and then the rest of the script passes as well.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms - ARGV[4])
redis.call('ZADD', KEYS[2], now_ms, ARGV[3])
append(KEYS[3], {'e', ARGV[2], 'h', ARGV[5], 'b', ARGV[6], 'x', ARGV[7]})
increase(KEYS[1], 'dead:' .. ARGV[1], 1)
increase(KEYS[1], 'ok:' .. ARGV[1], -1)
return 1
