-- Find the messages that have been running longest.
--
-- Promise: nothing is changed, and of a body only its beginning leaves Redis.
--
-- KEYS  streams
-- ARGV  group, how many, shortest time in ms, bytes of a body
-- Answer for each {number of the stream, id, consumer, ms, header, beginning of the body}, the longest first

local MOST_PER_STREAM = 100
local found, answer = {}, {}
for i = 1, #KEYS do
  local rows = attempt('XPENDING', KEYS[i], ARGV[1], 'IDLE', ARGV[3], '-', '+', MOST_PER_STREAM)
  for _, row in ipairs(rows.err == nil and rows or {}) do found[#found + 1] = {i, row[1], row[2], row[3]} end
end
table.sort(found, function(a, b) return a[4] > b[4] end)
for i = 1, math.min(#found, tonumber(ARGV[2])) do
  local row = found[i]
  local entry = redis.call('XRANGE', KEYS[row[1]], row[2], row[2])[1]
  local fields = by_name(entry and entry[2] or {})
  answer[#answer + 1] = {
    row[1], row[2], row[3], row[4], fields.h or '', string.sub(fields.b or '', 1, tonumber(ARGV[4])),
  }
end
return answer
