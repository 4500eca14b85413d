-- Let one worker at a time run a source.
--
-- Promise: the source is not taken from a worker whose lease lives, unless the source has finished.
--
-- Answer the worker that runs it now

check_permissions(COMMANDS)
local run, lease = unpack(KEYS)
local source, found, worker = next_arguments(3)
local field = 'runner:' .. source
allow_when_full(run)
local runner = redis.call('HGET', run, field) or ''
local has_finished = string.sub(redis.call('HGET', run, 'source:' .. source) or '', 1, 4) == 'done'
local lives = runner ~= found or redis.call('EXISTS', lease) == 1
if runner ~= '' and runner ~= worker and lives and not has_finished then return runner end
redis.call('HSET', run, field, worker)
return worker
