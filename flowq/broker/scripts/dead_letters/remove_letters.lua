-- Remove dead letters.
--
-- Promise: a letter and its edit go in one step. The counters stay: the message died in this run.
--
-- ARGV  ids
-- Answer: number removed

check_permissions(COMMANDS)
local dead, edited, restored = next_keys('stream', 'hash', 'hash')
if redis.call('EXISTS', restored) == 1 then
  for _, id in ipairs(ARGV) do
    local entry = entry_at(dead, id)
    local restored_from = entry and by_name(entry[2]).r
    if restored_from then redis.call('HDEL', restored, restored_from) end
  end
end
local removed = redis.call('XDEL', dead, unpack(ARGV))
redis.call('HDEL', edited, unpack(ARGV))
return removed
