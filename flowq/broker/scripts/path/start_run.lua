-- Start a run, or resume the one that has not finished.
--
-- Promise: an interrupted run is resumed with its counters, its seen messages and its finished sources. Counters and
-- seen messages are reset only when nothing is outstanding and every source that started has finished, or with `fresh`,
-- which also removes dead letters and the cursors of sources. Even when memory is full a worker can join, to drain.
-- The same call again, which has the same new id, finds the run that it has started and changes nothing: other workers
-- may have been busy in it since. Messages on orphans, edges that only other versions of the pipeline have, are
-- outstanding too: workers of the other version may handle them, or `flowq apply` moves them. A fresh run leaves them
-- there and counts them as its own, so that its balance adds up wherever they go.
--
-- KEYS  ..., the seen sets of the run, for each edge: stream, delayed, parked; then all keys of dead letters and kept
--       messages; for each orphan: stream, delayed
-- ARGV  ..., the names of the orphans, of the sources that will run
-- Answer {run id, 1 if it is resumed, for each source 1 if it has finished}

check_permissions(COMMANDS)
local new_id, n_seen, n_edges, is_fresh, signature, group, n_orphans = next_arguments(7)
local orphans = {next_arguments(n_orphans)}
local run, stats, failures, cursors = unpack(KEYS, 1, 4)
local first_seen = 5
local first_edge = first_seen + n_seen
local last_edge = first_edge + 3 * n_edges - 1
local first_orphan = #KEYS - 2 * n_orphans + 1

local function delete(first, last)
  for k = first, last do redis.call('DEL', KEYS[k]) end
end

local function outstanding_in(stream, delayed)
  local running = pending_summary(stream, group) -- also entries that were deleted by hand while they ran
  return math.max(redis.call('XLEN', stream), running) + redis.call('ZCARD', delayed)
end

allow_when_full(run)
local id = redis.call('HGET', run, 'id')
local is_repeated = id == new_id
if is_fresh == '1' and not is_repeated then
  delete(first_edge, first_orphan - 1)
  redis.call('DEL', cursors)
end
local resumes = false
for k = first_edge, last_edge, 3 do
  if outstanding_in(KEYS[k], KEYS[k + 1]) > 0 then resumes = true end
end
for k = first_orphan, is_fresh ~= '1' and #KEYS or 0, 2 do
  if outstanding_in(KEYS[k], KEYS[k + 1]) > 0 then resumes = true end
end
local first_source = next_range(0)
for i = first_source, id and is_fresh ~= '1' and #ARGV or 0 do
  local state = redis.call('HGET', run, 'source:' .. ARGV[i])
  if state and string.sub(state, 1, 4) == 'open' then resumes = true end
end
if is_repeated then
  resumes = redis.call('HGET', run, 'goes_on') == '1'
else
  if not resumes then
    redis.call('DEL', run, stats, failures)
    delete(first_seen, first_edge - 1)
    for o, edge in ipairs(orphans) do
      increment(stats, 'in:' .. edge, outstanding_in(KEYS[first_orphan + 2 * o - 2], KEYS[first_orphan + 2 * o - 1]))
    end
  end
  if not (resumes and id) then
    id = new_id
    redis.call('HSET', run, 'id', id, 'goes_on', resumes and 1 or 0)
  end
end
local answer = {id, resumes and 1 or 0}
for i = first_source, #ARGV do
  local field = 'source:' .. ARGV[i]
  local has_finished = redis.call('HGET', run, field) == 'done ' .. signature
  if not has_finished then redis.call('HSET', run, field, 'open ' .. signature) end
  answer[#answer + 1] = has_finished and 1 or 0
end
return answer
