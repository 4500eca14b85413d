-- Remove an edge that no version of the pipeline has any more, with everything on it.
--
-- Promise: only what was looked at is removed. Nothing changes when a run has put the edge on record again since, or
-- when the number of messages on it is not the one that was agreed to.
--
-- KEYS  1 plan  2 stream  3 delayed  4 parked
-- ARGV  edge, its record and its number of messages, both as they were looked at
-- Answer 1 when it was removed, 0 when nothing was

local outstanding = redis.call('XLEN', KEYS[2]) + redis.call('ZCARD', KEYS[3])
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] or outstanding ~= tonumber(ARGV[3]) then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return 1
