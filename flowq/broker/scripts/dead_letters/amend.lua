-- Give dead letters new bodies, to be used when they are put back. The letters themselves stay as they died.
--
-- Promise: only letters that are there are amended; the same call twice leaves the same.
--
-- KEYS  1 dead  2 amended
-- ARGV  for each: id, new body
-- Answer, for each: 1 amended, 0 no longer there

local wrong = misplaced({'stream', 'hash'})
if wrong then return wrong end
local answer = {}
for i = 1, #ARGV, 2 do
  local there = #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
  if there == 1 then redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
  answer[#answer + 1] = there
end
return answer
