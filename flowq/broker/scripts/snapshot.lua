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
for i = 1, n do
  local stream = KEYS[2 * i + 3]
  local pending = redis.pcall('XPENDING', stream, ARGV[1])
  edges[i] = {
    redis.call('XLEN', stream),
    pending.err == nil and pending[1] or 0,
    redis.call('ZCARD', KEYS[2 * i + 4]),
  }
end
for k = 5 + 2 * n, #KEYS do dead[#dead + 1] = redis.call('XLEN', KEYS[k]) end
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
