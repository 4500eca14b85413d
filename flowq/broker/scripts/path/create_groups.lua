-- Create the consumer group of each edge, which starts at the first entry.
--
-- Promise: a group that exists is left alone. One that is missing may have existed before, and its workers may have
-- messages that it delivers again. So the step that creates the group of an existing stream also ends the registration
-- of every worker that works on this edge, or has not recorded its edges: no batch of theirs is settled from then on.
-- XDEL comes first because Redis allows it when memory is full, and then the rest passes: a worker must be able to drain.

check_permissions(COMMANDS)
local group, revokes_all = next_arguments(2)
local workers = next_keys('hash')
local edges = {next_arguments(#ARGV - 2)}
local streams = {}
for e = 1, #edges do streams[e] = next_keys('stream') end

local function revoke(edge)
  local registered = redis.call('HGETALL', workers)
  for i = 1, #registered, 2 do
    local info = registered[i + 1]
    if string.find(info, '"' .. edge .. '"', 1, true) or not string.find(info, '"edges":', 1, true) then
      redis.call('HDEL', workers, registered[i])
    end
  end
end

for e, stream in ipairs(streams) do
  local is_new = redis.call('EXISTS', stream) == 0
  redis.call('XDEL', stream, '0-1')
  local exists = attempt('XPENDING', stream, group).err == nil
  if not exists then
    local created = attempt('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    if created.err then return created end
  end
  if revokes_all == '1' or not (exists or is_new) then revoke(edges[e]) end
end
return 1
