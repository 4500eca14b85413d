-- Start a run of a pipeline with several shards in shard 0, or resume the one that has not finished.
--
-- Promise: that of start_run.lua, where what other shards hold is outstanding as well. The caller has looked at them
-- before: if another run has been started since then, nothing is changed.
--
-- KEYS  those of start_run.lua
-- ARGV  those of start_run.lua, the id of the run at that look, 1 if other shards held something
-- Answer {-1} if another run has been started, otherwise as start_run.lua

check_permissions(COMMANDS)
local is_held, looked_at = table.remove(ARGV), table.remove(ARGV)
local current = redis.call('HGET', KEYS[1], 'id') or ''
if current ~= looked_at and current ~= ARGV[1] then return {-1} end
ARGV[#ARGV + 1] = '*held' -- counts as a source that has not finished
if is_held == '1' then
  allow_when_full(KEYS[1])
  redis.call('HSET', KEYS[1], 'source:*held', 'open')
end
--[[ the script ]]
redis.call('HDEL', KEYS[1], 'source:*held')
return answer
