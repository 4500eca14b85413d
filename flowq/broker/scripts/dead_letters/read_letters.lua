-- Read dead letters of one stage, with the bodies that they were edited to, or the messages that it keeps.
--
-- Promise: a page from one instant. Without bodies it stays small, however large the messages are.
--
-- ARGV  bodies, first id, most to read; or bodies, '', the ids
--       bodies: 'all', 'new' (only those that letters were edited to), 'none'
-- Answer, for each: {id, fields, its new body or false if it was not edited}

local letters, edited = unpack(KEYS)
local bodies, first, most = next_arguments(3)
local answer, entries = {}, {}
if first == '' then
  for i = 3, #ARGV do entries[#entries + 1] = entry_at(letters, ARGV[i]) end
else
  entries = redis.call('XRANGE', letters, first, '+', 'COUNT', most)
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
  local new_body = edited and bodies ~= 'none' and redis.call('HGET', edited, entry[1])
  answer[#answer + 1] = {entry[1], fields, new_body}
end
return answer
