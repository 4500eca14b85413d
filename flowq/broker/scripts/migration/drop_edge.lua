-- Remove an edge that no version of the pipeline has any more, with all its messages.
--
-- Promise: only what the user has seen is removed. Nothing changes if a run has recorded the edge again since, or if
-- the number of its messages has changed. They count as purged, so that the balance of their stage still adds up.
--
-- Answer 1 if it was removed, 0 if nothing was

check_permissions(COMMANDS)
local name, stage, record, n_messages = next_arguments(4)
local plan, stats = next_keys('hash', 'hash')
local edge = next_edge()
if redis.call('HGET', plan, name) ~= record or outstanding_on(edge) ~= tonumber(n_messages) then return 0 end
redis.call('HDEL', plan, name)
redis.call('DEL', edge.stream, edge.delayed, edge.bodies)
increment(stats, 'purged:' .. stage, math.min(n_messages, number_of(redis.call('HGET', stats, 'in:' .. name))))
return 1
