-- Add a dead letter for a message that was acknowledged before its handler had finished, and then failed.
--
-- Promise: what was counted as ok is counted as dead instead; the same token twice adds one letter.
--
-- KEYS  1 stats  2 published  3 dead
-- ARGV  stage, edge, token, token window in ms, header, body, info

if redis.call('ZSCORE', KEYS[2], ARGV[3]) then return 0 end
local is = redis.call('TYPE', KEYS[3]).ok
if is ~= 'none' and is ~= 'stream' then
  return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[3] .. ' is a ' .. is .. ', not a stream')
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- First, because Redis allows a removal when memory is full, and then the rest of the script passes as well.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms - ARGV[4])
redis.call('ZADD', KEYS[2], now_ms, ARGV[3])
redis.call('XADD', KEYS[3], '*', 'e', ARGV[2], 'h', ARGV[5], 'b', ARGV[6], 'x', ARGV[7])
redis.call('HINCRBY', KEYS[1], 'dead:' .. ARGV[1], 1)
redis.call('HINCRBY', KEYS[1], 'ok:' .. ARGV[1], -1)
return 1
