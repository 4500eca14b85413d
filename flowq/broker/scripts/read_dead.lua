-- Read dead letters of one stage, with what they have been amended to.
--
-- Promise: a page from one instant. Without bodies (but for new ones) it stays small, however large the messages are.
--
-- KEYS  1 dead  2 amended (not for kept messages, which are read by the same rule)
-- ARGV  with bodies (1/0), first id, most to read; or with bodies (1/0), '', then ids
-- Answer, for each: {id, fields, its new body or false where it was not amended}

local whole, answer, entries = ARGV[1] == '1', {}, {}
if ARGV[2] == '' then
  for i = 3, #ARGV do entries[#entries + 1] = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1] end
else
  entries = redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', ARGV[3])
end
for _, entry in ipairs(entries) do
  local fields = entry[2]
  if not whole then
    fields = {}
    for f = 1, #entry[2], 2 do
      local name = entry[2][f]
      if name == 'e' or name == 'h' or name == 'x' then
        fields[#fields + 1], fields[#fields + 2] = name, entry[2][f + 1]
      end
    end
  end
  answer[#answer + 1] = {entry[1], fields, KEYS[2] and redis.call('HGET', KEYS[2], entry[1])}
end
return answer
