-- Settle finished deliveries, some of whose outputs are for other shards.
--
-- Promise: as of settle.lua, which this is, with the outboxes of this shard as further targets. Nothing is put into them
-- unless the call settles something, and the answer that is kept tells what was put.
--
-- KEYS and ARGV as of settle.lua, then as of take_outboxes
-- Answer as of settle.lua, then a list with what was put into each outbox: id, id before it, messages sent up to it;
--        {-2} if this shard has another layout: nothing was changed

local outboxes = take_outboxes()
if not outboxes then return {-2} end

--[[ the script ]]
answer[#answer + 1] = acked > 0 and put_entries(outboxes, stats, stage) or {}
if answered then keep_answer(answered, token, answer) end
return answer
