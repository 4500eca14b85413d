-- Look through part of a stream, or of a delayed set, for messages of one family.
--
-- Promise: nothing is changed, and no body leaves Redis.
--
-- KEYS  1 stream, or delayed  2 parked, for a delayed set
-- ARGV  group, id of a message, where to go on ('-' or an entry id; a rank in a delayed set), most to look through
-- Answer {where to go on or '', number looked through, for each found: entry id or due in ms, header, worker or ''}
-- A message is found that is the one, came from it directly, or has it as its root.

local group, wanted, most = ARGV[1], ARGV[2], tonumber(ARGV[4])

local function is_kin(header)
  local id, root, parent = string.match(header, '^(%S+) (%S+) (%S+) %d+')
  return id == wanted or root == wanted or parent == wanted
end

if KEYS[2] then
  local first = tonumber(ARGV[3]) or 0
  local due = redis.call('ZRANGE', KEYS[1], first, first + most - 1, 'WITHSCORES')
  local answer = {#due == 2 * most and tostring(first + most) or '', #due / 2}
  for d = 1, #due, 2 do
    local parked = redis.call('HGET', KEYS[2], due[d])
    local header = parked and string.match(parked, '^[^\n]*') or ''
    if is_kin(header) then
      for _, value in ipairs({due[d + 1], header, ''}) do answer[#answer + 1] = value end
    end
  end
  return answer
end

local first = ARGV[3] == '-' and '-' or '(' .. ARGV[3]
local entries = redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', most)
local answer = {#entries == most and entries[most][1] or '', #entries}
for _, entry in ipairs(entries) do
  for f = 1, #entry[2], 2 do
    if entry[2][f] == 'h' and is_kin(entry[2][f + 1]) then
      local pending = attempt('XPENDING', KEYS[1], group, entry[1], entry[1], 1)
      local worker = not pending.err and pending[1] and pending[1][2] or ''
      for _, value in ipairs({entry[1], entry[2][f + 1], worker}) do answer[#answer + 1] = value end
    end
  end
end
return answer
