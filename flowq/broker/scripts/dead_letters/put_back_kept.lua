-- Run messages again that a stage has settled and kept.
--
-- Promise: each is either kept or waiting, in one step; one that is no longer kept is passed over, so that the same call
-- twice does nothing twice. It is kept again when it has run again. The removal comes first: Redis allows it when
-- memory is full, and then the rest passes.
--
-- KEYS  1 stats  2 kept  3 stream
-- ARGV  edge, for each: id among the kept, its new header
-- Answer: number put back

local wrong = misplaced({'hash', 'stream', 'stream'})
if wrong then return wrong end
local put_back = 0
for i = 2, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  if entry then
    local again = {'h', ARGV[i + 1]}
    local fields = whole(entry[2])
    for f = 1, #fields, 2 do
      if fields[f] ~= 'h' then again[#again + 1], again[#again + 2] = fields[f], fields[f + 1] end
    end
    if redis.call('XDEL', KEYS[2], ARGV[i]) == 1 then
      if append(KEYS[3], again) then
        put_back = put_back + 1
      else
        append(KEYS[2], entry[2]) -- kept again, until the stream of its stage takes it
      end
    end
  end
end
if put_back > 0 then increase(KEYS[1], 'in:' .. ARGV[1], put_back) end
return put_back
