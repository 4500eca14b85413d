-- Look at the messages of some edges without taking them.
--
-- Promise: nothing is changed, and all edges are seen at one instant.
--
-- KEYS  for each edge: stream, delayed, parked
-- ARGV  group, most of each kind, then for each edge the entry id after which to look ('' for what nobody was given yet)
-- Answer {now in ms, for each edge {running: {id, fields, worker, ms since it was given}, waiting: {id, fields},
--         delayed: {due in ms, header and body}}}

local group, most = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local answer = {time[1] * 1000 + math.floor(time[2] / 1000)}
for k = 1, #KEYS, 3 do
  local stream, after = KEYS[k], ARGV[2 + (k + 2) / 3]
  local running, delayed = {}, {}
  if after == '' then
    after = last_delivered(stream, group)
    local pending = attempt('XPENDING', stream, group, '-', '+', most)
    for p = 1, pending.err and 0 or #pending do
      local entry = redis.call('XRANGE', stream, pending[p][1], pending[p][1])[1]
      if entry then running[#running + 1] = {entry[1], entry[2], pending[p][2], pending[p][3]} end
    end
    local due = redis.call('ZRANGE', KEYS[k + 1], 0, most - 1, 'WITHSCORES')
    for d = 1, #due, 2 do
      local parked = redis.call('HGET', KEYS[k + 2], due[d])
      if parked then delayed[#delayed + 1] = {due[d + 1], parked} end
    end
  end
  answer[#answer + 1] = {running, redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', most), delayed}
end
return answer
