-- Take messages out of an edge and put them into outboxes: they live in other shards from now on.
--
-- Promise: a message is on its edge or in an outbox, never in both or neither, and the balance is right after every step.
-- Nothing happens unless all that are named are still there: what the outboxes get was packed from them. Nothing happens
-- while a worker lives that may be working on one. One that was taken for dead and wakes up late is no longer registered,
-- as after a reclaim, so that its settlement changes nothing. A removal comes first: Redis allows it when memory is full.
--
-- KEYS  workers, stats, those of the edge, for each consumer its lease; then as of take_outboxes
-- ARGV  group, edge, entry ids, delayed messages, consumers: how many of each, and then they; then as of take_outboxes
-- Answer {1}; {-1} if one of them is gone; {-2} if this shard has another layout; {-3, consumer} if it lives; {-4} if
--        there are consumers that are not named

local outboxes = take_outboxes()
if not outboxes then return {-2} end
check_permissions(COMMANDS)
local group, edge_name = next_arguments(2)
local n_ids, n_delayed, n_consumers = next_numbers(3)
local workers, stats = next_keys('hash', 'hash')
local edge = next_edge()
local first_id, last_id = next_range(n_ids)
local first_delayed, last_delayed = next_range(n_delayed)

local known = {}
for _ = 1, n_consumers do
  local consumer, lease = next_arguments(1), next_keys('string')
  known[consumer] = true
  if redis.call('EXISTS', lease) == 1 then return {-3, consumer} end
end
local _, consumers = pending_summary(edge.stream, group)
for _, consumer in ipairs(consumers) do
  if not known[consumer[1]] then return {-4} end
end
for i = first_id, last_id do
  if not entry_at(edge.stream, ARGV[i]) then return {-1} end
end
for i = first_delayed, last_delayed do
  if not redis.call('ZSCORE', edge.delayed, ARGV[i]) then return {-1} end
end

allow_when_full(workers)
for consumer in pairs(known) do redis.call('HDEL', workers, consumer) end
for i = first_id, last_id do
  attempt('XACK', edge.stream, group, ARGV[i])
  redis.call('XDEL', edge.stream, ARGV[i])
end
for i = first_delayed, last_delayed do
  redis.call('ZREM', edge.delayed, ARGV[i])
  redis.call('HDEL', edge.bodies, ARGV[i])
end
increment(stats, 'in:' .. edge_name, -(n_ids + n_delayed))
put_entries(outboxes, stats, '')
return {1}
