-- Add dead letters that were exported before.
--
-- Promise: a letter that still exists, or was restored and still exists, is not added, nor is one that was restored
-- while its token is kept. They run only when they are put back, and enter the balance then.
--
-- `restored` maps the id that a letter had to the id that it has. Answer: number added

check_permissions(COMMANDS)
local token_kept_ms = next_numbers(1)
local published, dead, restored = next_keys('zset', 'stream', 'hash')

-- Whether the letter of a message has this id: another Redis may have assigned it to another message.
local function exists(id, header)
  local entry = attempt('XRANGE', dead, id, id)[1]
  if not entry then return false end
  for f = 1, #entry[2], 2 do
    local message_id = entry[2][f] == 'h' and string.match(entry[2][f + 1], '^(%S+) %S+ %S+ %d+')
    if message_id then return message_id == string.match(header, '^%S+') end
  end
  return true
end

redis.call('ZREMRANGEBYSCORE', published, '-inf', now_ms() - token_kept_ms)
local added = 0
for _ = 2, #ARGV, 6 do
  local token, id, edge, header, body, reason = next_arguments(6)
  local copy = redis.call('HGET', restored, id)
  if not (redis.call('ZSCORE', published, token) or exists(id, header) or copy and exists(copy, header)) then
    redis.call('ZADD', published, now_ms(), token)
    copy = append(dead, {'e', edge, 'h', header, 'b', body, 'x', reason, 'r', id})
    redis.call('HSET', restored, id, copy)
    added = added + 1
  end
end
return added
