-- Add a dead letter for a message that was acknowledged before its handler had finished, and then failed.
--
-- Promise: what was counted as ok is counted as dead instead; the same token twice adds one letter.
--
-- KEYS  1 stats  2 published  3 dead
-- ARGV  stage, edge, token, header, body, info

if redis.call('ZSCORE', KEYS[2], ARGV[3]) then return 0 end
local is = redis.call('TYPE', KEYS[3]).ok
if is ~= 'none' and is ~= 'stream' then
  return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[3] .. ' is a ' .. is .. ', not a stream')
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[3])
redis.call('XADD', KEYS[3], '*', 'e', ARGV[2], 'h', ARGV[4], 'b', ARGV[5], 'x', ARGV[6])
redis.call('HINCRBY', KEYS[1], 'dead:' .. ARGV[1], 1)
redis.call('HINCRBY', KEYS[1], 'ok:' .. ARGV[1], -1)
return 1
