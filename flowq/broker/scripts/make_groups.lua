-- Make the consumer group of each edge, from the first entry on.
--
-- Promise: one that exists is left as it is. XDEL comes first because Redis allows it when memory is full, and then the
-- rest passes: whoever comes to drain must be let in.
--
-- KEYS  streams
-- ARGV  group

for k = 1, #KEYS do
  local is = redis.call('TYPE', KEYS[k]).ok
  if is ~= 'none' and is ~= 'stream' then
    return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[k] .. ' is a ' .. is .. ', not a stream')
  end
end
for k = 1, #KEYS do
  redis.call('XDEL', KEYS[k], '0-1')
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[k], ARGV[1], '0', 'MKSTREAM')
  local exists = redis.pcall('XPENDING', KEYS[k], ARGV[1]).err == nil
  if made.err and not exists then return made end
end
return 1
