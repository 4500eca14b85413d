-- Read the whole state of a pipeline in one step.
--
-- Promise: the numbers are consistent. A settlement moves a message inside one script, so that no message is missing
-- while it moves, and "everything is empty" is exact.
--
-- Answer {stats, run, workers, now in ms, for each edge {length, pending, delayed}, for each stage its number of dead
--         letters, paused, failures, the edges on record}

local group = next_arguments(1)
local n_edges = next_numbers(1)
local stats, run, workers, paused, failures, plan = unpack(KEYS, 1, 6)
local edges, dead = {}, {}
local wrong -- a key that another program has replaced

local function size(command, key)
  local found = attempt(command, key)
  if type(found) == 'number' then return found end
  wrong = wrong or key
  return 0
end

local first_edge, first_dead = 7, 7 + 2 * n_edges
for k = first_edge, first_dead - 1, 2 do
  local pending = pending_summary(KEYS[k], group)
  edges[#edges + 1] = {size('XLEN', KEYS[k]), pending, size('ZCARD', KEYS[k + 1])}
end
for k = first_dead, #KEYS do dead[#dead + 1] = size('XLEN', KEYS[k]) end
if wrong then return redis.error_reply('FLOWQ_WRONGTYPE ' .. wrong .. ' is a ' .. redis.call('TYPE', wrong).ok) end
return {
  redis.call('HGETALL', stats), redis.call('HGETALL', run), redis.call('HVALS', workers), now_ms(), edges, dead,
  redis.call('HGETALL', paused), redis.call('HGETALL', failures), redis.call('HKEYS', plan),
}
