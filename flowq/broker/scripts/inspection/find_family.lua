-- Search part of a stream, or of the delayed messages of an edge, for messages of one family: the wanted message, its
-- children, and those whose root it is.
--
-- Promise: nothing is changed, and no body leaves Redis.
--
-- KEYS  stream; or delayed, parked
-- ARGV  ..., where to continue ('-' or an entry id; a rank in delayed), most to search
-- Answer {where to continue or '', number searched, for each found: entry id or due in ms, header, and of a running one
-- its worker and since when in ms, else '' and 0}

local group, wanted, start = next_arguments(3)
local most = next_numbers(1)
local searched, bodies = unpack(KEYS)

local answer
local function note_if_family(place, header, is_delayed)
  local id, root, parent = string.match(header, '^(%S+) (%S+) (%S+) %d+')
  if id ~= wanted and root ~= wanted and parent ~= wanted then return end
  local pending = not is_delayed and pending_in(searched, group, place, place, 1)[1]
  local worker, since = pending and pending[2] or '', pending and now_ms() - pending[3] or 0
  for _, value in ipairs({place, header, worker, since}) do answer[#answer + 1] = value end
end

if bodies then
  local first = tonumber(start) or 0
  local due = redis.call('ZRANGE', searched, first, first + most - 1, 'WITHSCORES')
  answer = {#due == 2 * most and tostring(first + most) or '', #due / 2}
  for d = 1, #due, 2 do
    local value = redis.call('HGET', bodies, due[d])
    if value then note_if_family(due[d + 1], string.match(value, '^[^\n]*'), true) end
  end
else
  local entries = redis.call('XRANGE', searched, start == '-' and '-' or '(' .. start, '+', 'COUNT', most)
  answer = {#entries == most and entries[most][1] or '', #entries}
  for _, entry in ipairs(entries) do note_if_family(entry[1], by_name(entry[2]).h or '') end
end
return answer
