-- Find the references to bodies in the claim store.
--
-- Promise: nothing is changed, and no other body leaves Redis. Many keys in one call are seen at one instant.
--
-- KEYS  streams, then hashes of delayed messages
-- ARGV  number of streams, most entries of a stream to search (0: all), for each stream: the entry id to start after
-- Answer, for each stream: the entry id to continue after ('' at the end); then all references, a line each

local PER_CALL = 100 -- entries in memory at a time: each may have a body of a megabyte

local n_streams, most = next_numbers(2)
local found = {}

local function note(header, body)
  if header and body and string.find(header, ' e=file', 1, true) then found[#found + 1] = body end
end

local function search_stream(stream, after)
  local left = most
  while true do
    local count = most > 0 and math.min(PER_CALL, left) or PER_CALL
    local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      local fields = by_name(entry[2])
      note(fields.h, fields.b)
      if fields.r then found[#found + 1] = fields.r end -- released, but not deleted yet
      after = entry[1]
    end
    left = left - #entries
    if #entries < count then return '' end
    if most > 0 and left <= 0 then return after end
  end
end

local function search_hash(hash)
  local cursor, values = '0', nil
  repeat
    cursor, values = unpack(redis.call('HSCAN', hash, cursor, 'COUNT', PER_CALL))
    for f = 2, #values, 2 do note(string.match(values[f], '^([^\n]*)\n(.*)$')) end
  until cursor == '0'
end

local answer = {}
for k = 1, n_streams do answer[k] = search_stream(KEYS[k], next_arguments(1)) end
for k = n_streams + 1, #KEYS do search_hash(KEYS[k]) end
answer[#answer + 1] = table.concat(found, '\n')
return answer
