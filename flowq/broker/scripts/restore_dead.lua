-- Add dead letters that were exported before.
--
-- Promise: the same letter within the token window is added once. They run again only when they are put back, and
-- enter the balance then.
--
-- KEYS  1 published  2 dead
-- ARGV  token window in ms, for each: token, edge, header, body, info
-- Answer: number added

local is = redis.call('TYPE', KEYS[2]).ok
if is ~= 'none' and is ~= 'stream' then
  return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[2] .. ' is a ' .. is .. ', not a stream')
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - ARGV[1])
local added = 0
for i = 2, #ARGV, 5 do
  if not redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], now_ms, ARGV[i])
    redis.call('XADD', KEYS[2], '*', 'e', ARGV[i + 1], 'h', ARGV[i + 2], 'b', ARGV[i + 3], 'x', ARGV[i + 4])
    added = added + 1
  end
end
return added
