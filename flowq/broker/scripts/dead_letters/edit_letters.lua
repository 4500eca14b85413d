-- Give dead letters new bodies, which replace their own when they are put back. The letters themselves do not change.
--
-- Promise: only letters that exist are edited; the same call again changes nothing.
--
-- ARGV  for each: id, new body
-- Answer, for each: 1 edited, 0 no such letter

check_permissions(COMMANDS)
local dead, edited = next_keys('stream', 'hash')
local answer = {}
for i = 1, #ARGV, 2 do
  local exists = entry_at(dead, ARGV[i])
  if exists then redis.call('HSET', edited, ARGV[i], ARGV[i + 1]) end
  answer[#answer + 1] = exists and 1 or 0
end
return answer
