-- Take over what a dead worker has left pending on one edge.
--
-- Promise: never from a worker whose lease lives (or has changed since it was last looked at), never from oneself. The
-- step that claims also removes the registration, which is what a worker that wakes up late will notice. Where the dead worker is known to
-- have crashed, each entry it was at counts one crash, and an entry that reaches the limit becomes a dead letter in the
-- same step instead of being handed to one more worker.
--
-- The same call again, with the same token, gives those of its entries that are still this worker's.
--
-- KEYS  1 workers  2 lease of the dead  3 stream  4 suspects  5 dead  6 stats  7 the token and the ids of the last call
-- ARGV  group, the dead worker, this worker, most to claim, the lease last seen ('' for none), edge, stage,
--       crashes after which an entry is buried (0: it did not crash), what the dead letter then says, token
-- Answer {0} refused, {1, entries} claimed, {2} nothing left, its name is removed

local stream, group, dead_worker, edge, stage = KEYS[3], ARGV[1], ARGV[2], ARGV[6], ARGV[7]
local limit, token = tonumber(ARGV[8]), ARGV[10]
local KEPT_MS = 600000
local wrong = misplaced({'hash', 'string', 'stream', 'hash', 'stream', 'hash', 'string'})
if wrong then return wrong end
local kept = redis.call('GET', KEYS[7])
if kept and string.sub(kept, 1, #token + 1) == token .. ' ' then
  local entries = {}
  for id in string.gmatch(string.sub(kept, #token + 2), '%S+') do
    local pending = attempt('XPENDING', stream, group, id, id, 1)
    if pending[1] and pending[1][2] == ARGV[3] then entries[#entries + 1] = redis.call('XRANGE', stream, id, id)[1] end
  end
  return {1, entries}
end
local lease = redis.call('GET', KEYS[2])
if lease and lease ~= ARGV[5] then return {0} end
if dead_worker == ARGV[3] or redis.call('HEXISTS', KEYS[1], ARGV[3]) == 0 then return {0} end
local denied = unpermitted()
if denied then return denied end

redis.call('HDEL', KEYS[1], dead_worker)
if lease then redis.call('DEL', KEYS[2]) end
local pending = attempt('XPENDING', stream, group, '-', '+', ARGV[4], dead_worker)
if pending.err then return {2} end -- the group is gone, and every name with it
if #pending == 0 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, dead_worker)
  return {2}
end

local claim = {}
for i = 1, #pending do
  local id = pending[i][1]
  local suspect = edge .. '|' .. id
  if limit > 0 and increase(KEYS[4], suspect, 1) >= limit then
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if redis.call('XACK', stream, group, id) == 1 then
      local letter, fields = {'e', edge, 'x', ARGV[9]}, entry and whole(entry[2]) or {}
      for f = 1, #fields, 2 do
        local name, value = fields[f], fields[f + 1]
        letter[#letter + 1] = (name == 'h' or name == 'b') and name or 'f:' .. name
        letter[#letter + 1] = value
      end
      redis.call('XDEL', stream, id)
      append(KEYS[5], letter)
      increase(KEYS[6], 'dead:' .. stage, 1)
      if entry and not is_counted(fields) then increase(KEYS[6], 'in:' .. edge, 1) end -- no publisher did
    end
    redis.call('HDEL', KEYS[4], suspect)
  else
    claim[#claim + 1] = id
  end
end
redis.call('SET', KEYS[7], token .. ' ' .. table.concat(claim, ' '), 'PX', KEPT_MS)
if #claim == 0 then return {1, {}} end
local claimed = redis.call('XCLAIM', stream, group, ARGV[3], 0, unpack(claim))
-- What was deleted by hand while it ran is not pending any more either, since Redis 7: it counts as purged.
if #claimed < #claim then increase(KEYS[6], 'purged:' .. stage, #claim - #claimed) end
return {1, claimed}
