-- Record the edges of a plan beside those of earlier plans, and return the record as it was before.
--
-- Promise: edges of other versions of the pipeline stay recorded, so that their messages are not forgotten. Even when
-- memory is full a worker can do this, to drain.
--
-- ARGV  for each edge: its name, and a JSON object of what it accepts
-- Answer the record before: edge, JSON object, ... with "seen_ms" added

check_permissions(COMMANDS)
local plan = KEYS[1]
local before = redis.call('HGETALL', plan)
local seen = string.format(',"seen_ms":%.0f}', now_ms())
allow_when_full(plan)
for i = 1, #ARGV, 2 do redis.call('HSET', plan, ARGV[i], string.sub(ARGV[i + 1], 1, -2) .. seen) end
return before, #ARGV > 0
