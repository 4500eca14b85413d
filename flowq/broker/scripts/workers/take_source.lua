-- Let one worker at a time run a source.
--
-- Promise: the source belongs to nobody else whose lease lives, unless it has finished. HDEL comes first because Redis
-- allows it when memory is full, and then the rest passes.
--
-- KEYS  1 run  2 lease of the worker that was found to run it
-- ARGV  source, that worker ('' for none), the worker that wants to
-- Answer the worker that runs it now

local field = 'runner:' .. ARGV[1]
redis.call('HDEL', KEYS[1], '')
local runner = redis.call('HGET', KEYS[1], field) or ''
local has_finished = string.sub(redis.call('HGET', KEYS[1], 'source:' .. ARGV[1]) or '', 1, 4) == 'done'
local lives = runner ~= ARGV[2] or redis.call('EXISTS', KEYS[2]) == 1
if runner ~= '' and runner ~= ARGV[3] and lives and not has_finished then return runner end
redis.call('HSET', KEYS[1], field, ARGV[3])
return ARGV[3]
