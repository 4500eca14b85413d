-- Take over what a dead worker has left pending on one edge.
--
-- Promise: never from a worker whose lease lives (or has changed since it was last looked at), never from itself. The
-- step that claims also removes the registration, which is what a worker that wakes up late will notice. Where the dead
-- worker is known to have crashed, each entry that it was working on counts one crash, and an entry that reaches the
-- limit becomes a dead letter in the same step instead of being handed to one more worker.
-- The same call again, with the same token, returns those of its entries that are still this worker's.
--
-- `lease_seen` is the lease as the worker has seen it, '' for none. `limit`: crashes after which an entry becomes a dead
-- letter, 0 if the worker did not crash.
-- Answer {0} refused, {1, entries} claimed, {2} nothing left, the name of the dead worker is removed

local group, dead_worker, worker, most, lease_seen, edge, stage, limit, reason, token = next_arguments(10)
local workers, lease, stream, suspects, dead, stats, answered =
  next_keys('hash', 'string', 'stream', 'hash', 'stream', 'hash', 'string')
local deaths = KEYS[8]
limit = tonumber(limit)
local claimed_before = kept_answer(answered, token)
if claimed_before then
  local entries = {}
  for _, id in ipairs(claimed_before) do
    if owner_of(stream, group, id) == worker then entries[#entries + 1] = entry_at(stream, id) end
  end
  return {1, entries}
end
local heartbeat = redis.call('GET', lease)
if heartbeat and heartbeat ~= lease_seen then return {0} end
if dead_worker == worker or redis.call('HEXISTS', workers, worker) == 0 then return {0} end
check_permissions(COMMANDS)

local facts = redis.call('HGET', workers, dead_worker)
redis.call('HDEL', workers, dead_worker)
note_death(deaths, dead_worker, facts, LEASE_ENDED)
if heartbeat then redis.call('DEL', lease) end
local pending = attempt('XPENDING', stream, group, '-', '+', most, dead_worker)
if pending.err then return {2} end -- the group is gone, and every name with it
if #pending == 0 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, dead_worker)
  return {2}
end

local claim = {}
for _, row in ipairs(pending) do
  local id = row[1]
  local suspect = edge .. '|' .. id
  if limit > 0 and increment(suspects, suspect, 1) >= limit then
    local entry = entry_at(stream, id)
    if redis.call('XACK', stream, group, id) == 1 then
      local fields = entry and whole(entry[2]) or {}
      redis.call('XDEL', stream, id)
      append(dead, letter_of(edge, reason, fields))
      increment(stats, 'dead:' .. stage, 1)
      if entry and not is_counted(fields) then increment(stats, 'in:' .. edge, 1) end
    end
    redis.call('HDEL', suspects, suspect)
  else
    claim[#claim + 1] = id
  end
end
keep_answer(answered, token, claim)
if #claim == 0 then return {1, {}} end
local claimed = redis.call('XCLAIM', stream, group, worker, 0, unpack(claim))
-- What was deleted by hand while it ran is no longer pending, since Redis 7: it counts as purged.
increment(stats, 'purged:' .. stage, #claim - #claimed)
return {1, claimed}
