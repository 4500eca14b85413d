-- Remove an edge that no version of the pipeline has any more, with all its messages.
--
-- Promise: only what the user has seen is removed. Nothing changes if a run has recorded the edge again since, or if
-- the number of its messages has changed.
--
-- KEYS  plan, stream, delayed, parked
-- ARGV  edge, its record and its number of messages as the user has seen them
-- Answer 1 if it was removed, 0 if nothing was

local plan, stream, delayed, bodies = unpack(KEYS)
local edge, record, n_messages = next_arguments(3)
local outstanding = outstanding_on({stream = stream, delayed = delayed})
if redis.call('HGET', plan, edge) ~= record or outstanding ~= tonumber(n_messages) then return 0 end
redis.call('HDEL', plan, edge)
redis.call('DEL', stream, delayed, bodies)
return 1
