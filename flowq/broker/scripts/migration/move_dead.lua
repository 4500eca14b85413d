-- Move dead letters, or messages that were kept, to the stage that has taken the place of theirs, a step at a time.
--
-- Promise: a letter is with one of the two stages, never with both or neither. It keeps its id, which tells when it died,
-- unless the new stage has a later one already; what it was amended to goes along.
--
-- KEYS  1 dead  2 new dead  3 amended  4 new amended
-- ARGV  most to move, then for each edge: its name and the new one
-- Answer: number moved

local wrong = misplaced({'stream', 'stream', 'hash', 'hash'})
if wrong then return wrong end
local new_name = {}
for i = 2, #ARGV, 2 do new_name[ARGV[i]] = ARGV[i + 1] end
local letters = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
for _, letter in ipairs(letters) do
  local id, fields = letter[1], addable(letter[2])
  for f = 1, #fields, 2 do
    if fields[f] == 'e' then fields[f + 1] = new_name[fields[f + 1]] or fields[f + 1] end
  end
  local amended = redis.call('HGET', KEYS[3], id)
  redis.call('HDEL', KEYS[3], id)
  redis.call('XDEL', KEYS[1], id)
  local added = attempt('XADD', KEYS[2], id, unpack(fields))
  if type(added) == 'table' and added.err then added = append(KEYS[2], fields) end
  if amended then redis.call('HSET', KEYS[4], added, amended) end
end
if #letters == 0 then redis.call('DEL', KEYS[1]) end -- an empty stream is all that is left
return #letters
