-- Find the references to bodies in the claim store.
--
-- Promise: nothing is changed, and no other body leaves Redis. Many keys in one call are seen at one instant.
--
-- KEYS  streams, then hashes of delayed messages
-- ARGV  number of streams, most entries of a stream to look through (0: all), for each stream: the entry id after which
--       to begin
-- Answer, for each stream: where to go on ('' at the end), then all references, a line each

local PER_CALL = 100 -- entries that are held at a time: each may have a body of a megabyte

local n_streams, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}

local function note(header, body)
  if header and body and string.find(header, ' e=file', 1, true) then found[#found + 1] = body end
end

local function look_through_stream(stream, after)
  local left = most
  while true do
    local count = most > 0 and math.min(PER_CALL, left) or PER_CALL
    local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      local values = by_name(entry[2])
      note(values['h'], values['b'])
      if values['r'] then found[#found + 1] = values['r'] end -- released, and not deleted yet
      after = entry[1]
    end
    left = left - #entries
    if #entries < count then return '' end
    if most > 0 and left <= 0 then return after end
  end
end

local function look_through_hash(hash)
  local cursor = '0'
  repeat
    local reply = redis.call('HSCAN', hash, cursor, 'COUNT', PER_CALL)
    cursor = reply[1]
    for f = 2, #reply[2], 2 do note(string.match(reply[2][f], '^([^\n]*)\n(.*)$')) end
  until cursor == '0'
end

local answer = {}
for k, key in ipairs(KEYS) do
  if k <= n_streams then
    answer[k] = look_through_stream(key, ARGV[k + 2])
  else
    look_through_hash(key)
  end
end
answer[#answer + 1] = table.concat(found, '\n')
return answer
