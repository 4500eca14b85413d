-- Read dead letters of one stage, with what they have been amended to.
--
-- Promise: a page from one instant. Without bodies it stays small, however large the messages are.
--
-- KEYS  1 dead  2 amended (not for kept messages, which are read by the same rule)
-- ARGV  bodies, first id, most to read; or bodies, '', then ids
--       bodies: 'all', 'new' (only what letters were amended to), 'none'
-- Answer, for each: {id, fields, its new body or false where it was not amended}

local bodies, answer, entries = ARGV[1], {}, {}
if ARGV[2] == '' then
  for i = 3, #ARGV do entries[#entries + 1] = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1] end
else
  entries = redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', ARGV[3])
end
for _, entry in ipairs(entries) do
  local fields = entry[2]
  if bodies ~= 'all' then
    fields = {}
    for f = 1, #entry[2], 2 do
      local name = entry[2][f]
      if name == 'e' or name == 'h' or name == 'x' then
        fields[#fields + 1], fields[#fields + 2] = name, entry[2][f + 1]
      end
    end
  end
  local amended = KEYS[2] and bodies ~= 'none' and redis.call('HGET', KEYS[2], entry[1])
  answer[#answer + 1] = {entry[1], fields, amended}
end
return answer
