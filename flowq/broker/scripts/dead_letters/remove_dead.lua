-- Remove dead letters for good.
--
-- Promise: a letter goes with its amendment in one step. The counters stay: it has died in this run.
--
-- KEYS  1 dead  2 amended  3 restored
-- ARGV  ids
-- Answer: number removed

if redis.call('EXISTS', KEYS[3]) == 1 then
  for _, id in ipairs(ARGV) do
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    for f = 1, entry and #entry[2] or 0, 2 do
      if entry[2][f] == 'r' then redis.call('HDEL', KEYS[3], entry[2][f + 1]) end
    end
  end
end
local removed = redis.call('XDEL', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
return removed
