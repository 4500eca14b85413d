-- Move dead letters, or kept messages, to the stage that replaces theirs, a step at a time.
--
-- Promise: a letter belongs to one of the two stages, never to both or neither. It keeps its id, which tells when it
-- died, unless the new stage has a later one already; its edit moves with it.
--
-- ARGV  most to move, for each edge: its name and its new name. Answer: number moved

check_permissions(COMMANDS)
local dead, new_dead, edited, new_edited = next_keys('stream', 'stream', 'hash', 'hash')
local most = next_arguments(1)
local new_name = by_name({unpack(ARGV, 2)})
local letters = redis.call('XRANGE', dead, '-', '+', 'COUNT', most)
for _, letter in ipairs(letters) do
  local id, fields = letter[1], addable(letter[2])
  for f = 1, #fields, 2 do
    if fields[f] == 'e' then fields[f + 1] = new_name[fields[f + 1]] or fields[f + 1] end
  end
  local new_body = redis.call('HGET', edited, id)
  redis.call('HDEL', edited, id)
  redis.call('XDEL', dead, id)
  local new_id = attempt('XADD', new_dead, id, unpack(fields))
  if type(new_id) == 'table' and new_id.err then new_id = append(new_dead, fields) end
  if new_body then redis.call('HSET', new_edited, new_id, new_body) end
end
if #letters == 0 then redis.call('DEL', dead) end -- only an empty stream is left
return #letters
