-- Find why messages are delayed: of those that are due first, the headers of the ones whose last attempt failed.
--
-- Promise: nothing is changed, no body leaves Redis, and little of its memory is read: Redis serves nothing else while
-- this runs.
--
-- KEYS  for each edge: delayed, parked
-- ARGV  for each edge: how many messages to look at
-- Answer for each edge {for each message that failed: when it is due in ms, its header}

local MOST_BYTES = 4000000

local answer, n_bytes = {}, 0
for k = 1, #KEYS, 2 do
  local found, most = {}, next_numbers(1)
  local due = redis.call('ZRANGE', KEYS[k], 0, most - 1, 'WITHSCORES')
  for d = 1, #due, 2 do
    if n_bytes > MOST_BYTES then break end
    local value = redis.call('HGET', KEYS[k + 1], due[d]) or ''
    local header = string.match(value, '^[^\n]*')
    if string.find(header, ' l=', 1, true) then found[#found + 1], found[#found + 2] = due[d + 1], header end
    n_bytes = n_bytes + #value
  end
  answer[#answer + 1] = found
end
return answer
