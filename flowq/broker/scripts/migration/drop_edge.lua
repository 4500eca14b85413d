-- Remove an edge that no version of the pipeline has any more, with all its messages.
--
-- Promise: only what the user has seen is removed. Nothing changes if a run has recorded the edge again since, or if
-- the number of its messages has changed.
--
-- Answer 1 if it was removed, 0 if nothing was

local name, record, n_messages = next_arguments(3)
local plan = next_keys('hash')
local edge = next_edge()
if redis.call('HGET', plan, name) ~= record or outstanding_on(edge) ~= tonumber(n_messages) then return 0 end
redis.call('HDEL', plan, name)
redis.call('DEL', edge.stream, edge.delayed, edge.bodies)
return 1
