-- Begin a run, or join the one that has not finished.
--
-- Promise: a run that was broken off goes on, with its counters, its seen messages and its finished sources. Counters
-- and seen messages start anew only when nothing is outstanding and every source that began has finished, or when
-- told to start fresh; dead letters and the cursors of sources are kept either way, unless fresh. HDEL comes first
-- because Redis allows it when memory is full, and then the rest passes: whoever comes to drain must be let in.
-- The same call again, which has the same new id, finds the run that it has begun and changes nothing: others may have
-- been at work in it meanwhile.
--
-- KEYS  1 run  2 stats  3 cursors, then the seen sets of the run, then for each edge: stream, delayed, parked,
--       then dead streams
-- ARGV  new run id, number of seen sets, number of edges, fresh (1/0), signature of the sources' arguments,
--       group, the names of the sources that will run
-- Answer {run id, 1 if it goes on, for each source 1 if it has finished}

local n_seen, n_edges, fresh = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local first_edge = 4 + n_seen
redis.call('HDEL', KEYS[1], '')
local run = redis.call('HGET', KEYS[1], 'id')
local begun = run == ARGV[1]
if begun then fresh = false end
local outstanding = 0
for i = 0, n_edges - 1 do
  local k = first_edge + 3 * i
  if fresh then redis.call('DEL', KEYS[k], KEYS[k + 1], KEYS[k + 2]) end
  local pending = attempt('XPENDING', KEYS[k], ARGV[6]) -- also entries that were deleted by hand while they ran
  local running = pending.err == nil and pending[1] or 0
  outstanding = outstanding + math.max(redis.call('XLEN', KEYS[k]), running) + redis.call('ZCARD', KEYS[k + 1])
end
if fresh then
  redis.call('DEL', KEYS[3])
  for k = first_edge + 3 * n_edges, #KEYS do redis.call('DEL', KEYS[k]) end
end
local goes_on = not fresh and outstanding > 0
if run and not goes_on and not fresh then
  for i = 7, #ARGV do
    local state = redis.call('HGET', KEYS[1], 'source:' .. ARGV[i])
    if state and string.sub(state, 1, 4) == 'open' then goes_on = true end
  end
end
if not goes_on and not begun then
  redis.call('DEL', KEYS[1], KEYS[2])
  for k = 4, 3 + n_seen do redis.call('DEL', KEYS[k]) end
end
if begun then
  goes_on = redis.call('HGET', KEYS[1], 'goes_on') == '1'
elseif not goes_on or not run then
  run = ARGV[1]
  redis.call('HSET', KEYS[1], 'id', run, 'goes_on', goes_on and 1 or 0)
end
local answer = {run, goes_on and 1 or 0}
for i = 7, #ARGV do
  local field = 'source:' .. ARGV[i]
  local done = redis.call('HGET', KEYS[1], field) == 'done ' .. ARGV[5]
  if not done then redis.call('HSET', KEYS[1], field, 'open ' .. ARGV[5]) end
  answer[#answer + 1] = done and 1 or 0
end
return answer
