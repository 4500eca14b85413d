-- Make the consumer group of each edge, from the first entry on.
--
-- Promise: one that exists is left as it is. One that has to be made may have existed before, and its workers may hold
-- messages that it gives again. So the step that makes the group of a stream that is there also ends the registration
-- of every worker that works on its edge, or does not say on which: no batch of theirs is settled from then on. XDEL
-- comes first because Redis allows it when memory is full, and then the rest passes: whoever comes to drain must be let
-- in.
--
-- KEYS  1 workers, then the streams
-- ARGV  group, whether to end the registrations in any case (1/0), then the edges

local wrong = misplaced({'hash'}, {'stream'})
if wrong then return wrong end

local function revoke(edge)
  local workers = redis.call('HGETALL', KEYS[1])
  for i = 1, #workers, 2 do
    local about = workers[i + 1]
    if string.find(about, '"' .. edge .. '"', 1, true) or not string.find(about, '"edges":', 1, true) then
      redis.call('HDEL', KEYS[1], workers[i])
    end
  end
end

for k = 2, #KEYS do
  local is_new = redis.call('EXISTS', KEYS[k]) == 0
  redis.call('XDEL', KEYS[k], '0-1')
  local exists = attempt('XPENDING', KEYS[k], ARGV[1]).err == nil
  if not exists then
    local made = attempt('XGROUP', 'CREATE', KEYS[k], ARGV[1], '0', 'MKSTREAM')
    if made.err then return made end
  end
  if ARGV[2] == '1' or not (exists or is_new) then revoke(ARGV[k + 1]) end
end
return 1
