-- Run messages again that a stage has settled and kept.
--
-- Promise: each is either kept or waiting, in one step; one that is no longer kept is skipped, so that the same call
-- twice does nothing twice. After it has run it is kept again. The removal comes first: Redis allows it when memory is
-- full, and then the rest passes.
--
-- Answer: number put back

check_permissions(COMMANDS)
local edge = next_arguments(1)
local stats, kept, stream = next_keys('hash', 'stream', 'stream')
local put_back = 0
for _ = 2, #ARGV, 2 do
  local id, header = next_arguments(2)
  local entry = entry_at(kept, id)
  if entry then
    local again, fields = {'h', header}, whole(entry[2])
    for f = 1, #fields, 2 do
      if fields[f] ~= 'h' then again[#again + 1], again[#again + 2] = fields[f], fields[f + 1] end
    end
    redis.call('XDEL', kept, id)
    if append(stream, again) then
      put_back = put_back + 1
    else
      append(kept, entry[2]) -- kept again, until the stream accepts it
    end
  end
end
increment(stats, 'in:' .. edge, put_back)
return put_back
