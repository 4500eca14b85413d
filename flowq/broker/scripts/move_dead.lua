-- Move dead letters to the stage that has taken the place of theirs, a step at a time.
--
-- Promise: a letter is with one of the two stages, never with both or neither. It keeps its id, which tells when it died,
-- unless the new stage has a later one already.
--
-- KEYS  1 dead  2 new dead
-- ARGV  most to move, then for each edge: its name and the new one
-- Answer: number moved

local is = redis.call('TYPE', KEYS[2]).ok
if is ~= 'none' and is ~= 'stream' then
  return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[2] .. ' is a ' .. is .. ', not a stream')
end
local new_name = {}
for i = 2, #ARGV, 2 do new_name[ARGV[i]] = ARGV[i + 1] end
local letters = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
for _, letter in ipairs(letters) do
  local id, fields = letter[1], letter[2]
  for f = 1, #fields, 2 do
    if fields[f] == 'e' then fields[f + 1] = new_name[fields[f + 1]] or fields[f + 1] end
  end
  redis.call('XDEL', KEYS[1], id)
  local added = redis.pcall('XADD', KEYS[2], id, unpack(fields))
  if type(added) == 'table' and added.err then redis.call('XADD', KEYS[2], '*', unpack(fields)) end
end
if #letters == 0 then redis.call('DEL', KEYS[1]) end -- an empty stream is all that is left
return #letters
