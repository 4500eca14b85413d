-- Bring a shard to the run that has been started in shard 0.
--
-- Promise: a shard that holds nothing begins with new counters and forgets what its stages have seen; one that still
-- holds something keeps them. Does nothing in a shard that has joined. With `fresh` all messages are removed before, and
-- dead letters as well.
--
-- KEYS  those of start_run.lua
-- ARGV  run id, number of seen sets, number of edges, 1 if fresh, group, number of orphans
-- Answer 1 if the shard has joined now, otherwise 0

check_permissions(COMMANDS)
local new_id, n_seen, n_edges, is_fresh, group, n_orphans = unpack(ARGV)
local run, stats, failures = unpack(KEYS, 1, 3)
if redis.call('HGET', run, 'id') == new_id then return 0 end
local first_edge = 5 + n_seen
local last_edge = first_edge + 3 * n_edges - 1
local first_orphan = #KEYS - 2 * n_orphans + 1

local function delete(first, last)
  for k = first, last do redis.call('DEL', KEYS[k]) end
end

local function holds_any(first, last, step)
  for k = first, last, step do
    if redis.call('XLEN', KEYS[k]) + pending_summary(KEYS[k], group) + redis.call('ZCARD', KEYS[k + 1]) > 0 then
      return true
    end
  end
end

allow_when_full(run)
if is_fresh == '1' then delete(first_edge, first_orphan - 1) end
if not holds_any(first_edge, last_edge, 3) and not holds_any(first_orphan, is_fresh == '1' and 0 or #KEYS, 2) then
  redis.call('DEL', run, stats, failures)
  delete(5, first_edge - 1)
end
redis.call('HSET', run, 'id', new_id)
return 1
