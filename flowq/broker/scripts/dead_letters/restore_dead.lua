-- Add dead letters that were exported before.
--
-- Promise: a letter that is still there, or was restored and is still there, is not added, nor is one that was restored
-- within the token window. They run again only when they are put back, and enter the balance then.
--
-- KEYS  1 published  2 dead  3 restored (id that a letter had -> id that it has)
-- ARGV  token window in ms, for each: token, id that it had, edge, header, body, info
-- Answer: number added

local wrong = misplaced({'zset', 'stream', 'hash'})
if wrong then return wrong end

-- Another Redis may have given the same id to another message.
local function is_there(id, header)
  local entry = attempt('XRANGE', KEYS[2], id, id)[1]
  if not entry then return false end
  for f = 1, #entry[2], 2 do
    local message_id = entry[2][f] == 'h' and string.match(entry[2][f + 1], '^(%S+) %S+ %S+ %d+')
    if message_id then return message_id == string.match(header, '^%S+') end
  end
  return true
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - ARGV[1])
local added = 0
for i = 2, #ARGV, 6 do
  local token, id, header = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  local copy = redis.call('HGET', KEYS[3], id)
  if not redis.call('ZSCORE', KEYS[1], token) and not is_there(id, header) and not (copy and is_there(copy, header)) then
    redis.call('ZADD', KEYS[1], now_ms, token)
    copy = append(KEYS[2], {'e', ARGV[i + 2], 'h', header, 'b', ARGV[i + 4], 'x', ARGV[i + 5], 'r', id})
    redis.call('HSET', KEYS[3], id, copy)
    added = added + 1
  end
end
return added
