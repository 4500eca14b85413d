-- Look at the messages of some edges without taking them.
--
-- Promise: nothing is changed, and all edges are seen at one instant.
--
-- ARGV  ..., for each edge: the id after which waiting entries are wanted, or '' for all that were not delivered yet,
--       and for running and delayed messages
-- Answer {now in ms, for each edge {running: {id, fields, worker, ms since delivery}, waiting: {id, fields},
--         delayed: {due in ms, header and body, name}}}
-- Without bodies: only ids and names, to ask for each message by itself.

local group, most, has_bodies = next_arguments(3)
has_bodies = has_bodies == '1'

local function fields_of(entry) return has_bodies and entry[2] or {} end

local answer = {now_ms()}
for k = 1, #KEYS, 3 do
  local stream, delayed, bodies = unpack(KEYS, k, k + 2)
  local after = next_arguments(1)
  local seen_running, seen_waiting, seen_delayed = {}, {}, {}
  if after == '' then
    after = last_delivered(stream, group)
    for _, row in ipairs(pending_in(stream, group, '-', '+', most)) do
      local entry = entry_at(stream, row[1])
      if entry then seen_running[#seen_running + 1] = {entry[1], fields_of(entry), row[2], row[3]} end
    end
    local due = redis.call('ZRANGE', delayed, 0, most - 1, 'WITHSCORES')
    for d = 1, #due, 2 do
      local value = redis.call('HGET', bodies, due[d])
      if value then seen_delayed[#seen_delayed + 1] = {due[d + 1], has_bodies and value or '', due[d]} end
    end
  end
  for i, entry in ipairs(redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', most)) do
    seen_waiting[i] = {entry[1], fields_of(entry)}
  end
  answer[#answer + 1] = {seen_running, seen_waiting, seen_delayed}
end
return answer
