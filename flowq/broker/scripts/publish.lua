-- Append messages to one edge from outside.
--
-- Promise: all of a call or nothing, and once: a call with a token that was used before changes nothing and answers as
-- if it had. A full edge refuses the whole call. Refused by Redis itself when memory is full.
--
-- KEYS  1 stats  2 published  3 stream  4 seen  5 delayed  6 parked
-- ARGV  edge, token ('' for none), token window in ms, maxsize (0 for none), deduplicates (1/0), delay in ms, n,
--       source ('' when not published by a source),
--       for each message: header, body, hash if it deduplicates
-- Answer {1, appended, duplicates}, or {0, outstanding} when the edge is full

local WANTED = {'hash', 'zset', 'stream', 'set', 'zset', 'hash'}
for i = 1, #KEYS do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= WANTED[i] then
    return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[i] .. ' is a ' .. is .. ', not a ' .. WANTED[i])
  end
end

local stats, published, stream, seen, delayed, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local edge, token, window_ms, maxsize = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local deduplicates, delay_ms, n = ARGV[5] == '1', tonumber(ARGV[6]), tonumber(ARGV[7])
local source = ARGV[8]

if token ~= '' and redis.call('ZSCORE', published, token) then
  -- A write, and no more: WAIT after it then waits for replicas to have everything up to here. On a new connection
  -- that has written nothing, it would answer at once.
  redis.call('ZINCRBY', published, 1, token)
  return {1, n, 0}
end
if maxsize > 0 then
  local outstanding = redis.call('XLEN', stream) + redis.call('ZCARD', delayed)
  if outstanding >= maxsize then return {0, outstanding} end
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if token ~= '' then
  redis.call('ZADD', published, now_ms, token)
  redis.call('ZREMRANGEBYSCORE', published, '-inf', now_ms - window_ms)
end

local appended = 0
local width = deduplicates and 3 or 2
for i = 9, 8 + width * n, width do
  local header, body = ARGV[i], ARGV[i + 1]
  local message_id = delay_ms > 0 and string.match(header, '^%S+')
  local is_delayed_already = message_id and redis.call('ZSCORE', delayed, message_id)
  if not is_delayed_already and (not deduplicates or redis.call('SADD', seen, ARGV[i + 2]) == 1) then
    if message_id then
      redis.call('ZADD', delayed, now_ms + delay_ms, message_id)
      redis.call('HSET', parked, message_id, header .. '\n' .. body)
    else
      redis.call('XADD', stream, '*', 'h', header, 'b', body)
    end
    appended = appended + 1
  end
end
if appended > 0 then redis.call('HINCRBY', stats, 'in:' .. edge, appended) end
if appended < n then redis.call('HINCRBY', stats, 'duplicates:' .. edge, n - appended) end
if source ~= '' then redis.call('HINCRBY', stats, 'out:' .. source, n) end
return {1, appended, n - appended}
