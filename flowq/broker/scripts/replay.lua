-- Put dead letters back on the edge they came from.
--
-- Promise: each is either dead or waiting, in one step; one that is no longer there is passed over, so that the same
-- call twice does nothing twice.
--
-- KEYS  1 stats  2 run  3 dead  4 stream
-- ARGV  stage, edge, for each: id of the dead letter, its new header, the run it died in
-- Answer: number put back

local is = redis.call('TYPE', KEYS[4]).ok
if is ~= 'none' and is ~= 'stream' then
  return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[4] .. ' is a ' .. is .. ', not a stream')
end
local run = redis.call('HGET', KEYS[2], 'id') or ''
local replayed = 0
for i = 3, #ARGV, 3 do
  local letter = redis.call('XRANGE', KEYS[3], ARGV[i], ARGV[i])[1]
  if letter and redis.call('XDEL', KEYS[3], ARGV[i]) == 1 then
    local entry = {'h', ARGV[i + 1]}
    for f = 1, #letter[2], 2 do
      local name, value = letter[2][f], letter[2][f + 1]
      if name == 'b' then
        entry[#entry + 1], entry[#entry + 2] = 'b', value
      elseif string.sub(name, 1, 2) == 'f:' then
        entry[#entry + 1], entry[#entry + 2] = string.sub(name, 3), value
      end
    end
    redis.call('XADD', KEYS[4], '*', unpack(entry))
    -- A letter of this run moves back into the balance; one of an earlier run enters it anew.
    if ARGV[i + 2] == run then
      redis.call('HINCRBY', KEYS[1], 'dead:' .. ARGV[1], -1)
    else
      redis.call('HINCRBY', KEYS[1], 'in:' .. ARGV[2], 1)
    end
    replayed = replayed + 1
  end
end
return replayed
