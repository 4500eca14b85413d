-- Read the whole state of a pipeline in one step.
--
-- Promise: the numbers belong together. A hand-off moves a message inside one script, so that a message on the move is
-- never seen in neither place, and "everything is empty" is exact.
--
-- KEYS  1 stats  2 run  3 workers  4 paused, then for each edge: stream, delayed, then for each stage: dead
-- ARGV  group, number of edges
-- Answer {stats, run, workers, now in ms, for each edge {length, pending, delayed}, for each stage dead letters kept, paused}

local edges, dead = {}, {}
local n = tonumber(ARGV[2])
local wrong -- what cannot be counted: somebody else has written there
local function size(command, key)
  local found = attempt(command, key)
  if type(found) == 'number' then return found end
  wrong = wrong or key
  return 0
end
for i = 1, n do
  local stream = KEYS[2 * i + 3]
  local pending = attempt('XPENDING', stream, ARGV[1])
  edges[i] = {
    size('XLEN', stream),
    pending.err == nil and pending[1] or 0,
    size('ZCARD', KEYS[2 * i + 4]),
  }
end
for k = 5 + 2 * n, #KEYS do dead[#dead + 1] = size('XLEN', KEYS[k]) end
if wrong then return redis.error_reply('FLOWQ_WRONGTYPE ' .. wrong .. ' is a ' .. redis.call('TYPE', wrong).ok) end
local time = redis.call('TIME')
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('HGETALL', KEYS[2]),
  redis.call('HVALS', KEYS[3]),
  time[1] * 1000 + math.floor(time[2] / 1000),
  edges,
  dead,
  redis.call('HGETALL', KEYS[4]),
}
