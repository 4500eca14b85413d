-- Look at the messages of some edges without taking them.
--
-- Promise: nothing is changed, and all edges are seen at one instant.
--
-- KEYS  for each edge: stream, delayed, parked
-- ARGV  group, most of each kind, with bodies (1/0), then for each edge the entry id after which to look ('' for what
--       nobody was given yet)
-- Answer {now in ms, for each edge {running: {id, fields, worker, ms since it was given}, waiting: {id, fields},
--         delayed: {due in ms, header and body, name}}}
-- Without bodies: only ids and names, to ask for each message by itself.

local group, most, whole = ARGV[1], ARGV[2], ARGV[3] == '1'

local function seen(entry) return {entry[1], whole and entry[2] or {}} end

local time = redis.call('TIME')
local answer = {time[1] * 1000 + math.floor(time[2] / 1000)}
for k = 1, #KEYS, 3 do
  local stream, after = KEYS[k], ARGV[3 + (k + 2) / 3]
  local running, waiting, delayed = {}, {}, {}
  if after == '' then
    after = last_delivered(stream, group)
    local pending = attempt('XPENDING', stream, group, '-', '+', most)
    for p = 1, pending.err and 0 or #pending do
      local entry = redis.call('XRANGE', stream, pending[p][1], pending[p][1])[1]
      if entry then running[#running + 1] = {entry[1], seen(entry)[2], pending[p][2], pending[p][3]} end
    end
    local due = redis.call('ZRANGE', KEYS[k + 1], 0, most - 1, 'WITHSCORES')
    for d = 1, #due, 2 do
      local parked = redis.call('HGET', KEYS[k + 2], due[d])
      if parked then delayed[#delayed + 1] = {due[d + 1], whole and parked or '', due[d]} end
    end
  end
  for i, entry in ipairs(redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', most)) do waiting[i] = seen(entry) end
  answer[#answer + 1] = {running, waiting, delayed}
end
return answer
