-- Find the messages that have been running longest.
--
-- Promise: nothing is changed, and of a body only its beginning leaves Redis.
--
-- Answer for each {number of the stream, id, consumer, ms, header, beginning of the body}, the longest first

local MOST_PER_STREAM = 100

local group = next_arguments(1)
local most, shortest_ms, body_bytes = next_numbers(3)
local found, answer = {}, {}
for s, stream in ipairs(KEYS) do
  for _, row in ipairs(pending_in(stream, group, 'IDLE', shortest_ms, '-', '+', MOST_PER_STREAM)) do
    found[#found + 1] = {s, row[1], row[2], row[3]}
  end
end
table.sort(found, function(a, b) return a[4] > b[4] end)
for i = 1, math.min(#found, most) do
  local stream, id, consumer, ms = unpack(found[i])
  local entry = entry_at(KEYS[stream], id)
  local fields = by_name(entry and entry[2] or {})
  answer[i] = {stream, id, consumer, ms, fields.h or '', string.sub(fields.b or '', 1, body_bytes)}
end
return answer
