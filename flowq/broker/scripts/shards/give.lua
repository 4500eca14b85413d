-- Take messages out of an edge and put them into outboxes: they live in other shards from now on.
--
-- Promise: a message is on its edge or in an outbox, never in both or neither, and the balance is right after every step.
-- Nothing happens unless all that are named are still there: what the outboxes get was packed from them. Nothing happens
-- while a worker lives that may be working on one. One that was taken for dead and wakes up late is no longer registered,
-- as after a reclaim, so that its settlement changes nothing. A removal comes first: Redis allows it when memory is full.
--
-- Messages that stay may get another header: their value is named in another way from now on.
--
-- KEYS  workers, stats, those of the edge, for each consumer its lease; then as of take_outboxes
-- ARGV  group, edge, entry ids, delayed messages, entries that stay, delayed ones that stay, consumers: how many of each,
--       and then they, with its header behind each one that stays; then as of take_outboxes
-- Answer {1}; {-1} if one of them is gone; {-2} if this shard has another layout; {-3, consumer} if it lives; {-4} if
--        there are consumers that are not named

local outboxes = take_outboxes()
if not outboxes then return {-2} end
check_permissions(COMMANDS)
local group, edge_name = next_arguments(2)
local n_ids, n_delayed, n_staying, n_staying_delayed, n_consumers = next_numbers(5)
local workers, stats = next_keys('hash', 'hash')
local edge = next_edge()
local first_id, last_id = next_range(n_ids)
local first_delayed, last_delayed = next_range(n_delayed)
local first_staying, last_staying = next_range(2 * n_staying)
local first_staying_delayed, last_staying_delayed = next_range(2 * n_staying_delayed)

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
local function are_there(first, last, step, get)
  for i = first, last, step do
    if not get(ARGV[i]) then return false end
  end
  return true
end

local function waiting(id) return entry_at(edge.stream, id) end
local function delayed(name)
  return redis.call('ZSCORE', edge.delayed, name) and redis.call('HGET', edge.bodies, name)
end

-- What follows the header of a delayed message; nil if it has none, because another program has changed it meanwhile.
local function behind_header(name) return string.match(delayed(name) or '', '\n.*$') end

if
  not (
    are_there(first_id, last_id, 1, waiting)
    and are_there(first_delayed, last_delayed, 1, delayed)
    and are_there(first_staying, last_staying, 2, waiting)
    and are_there(first_staying_delayed, last_staying_delayed, 2, behind_header)
  )
then
  return {-1}
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
for i = first_staying, last_staying, 2 do
  local id, header = ARGV[i], ARGV[i + 1]
  local body = by_name(waiting(id)[2]).b
  attempt('XACK', edge.stream, group, id)
  redis.call('XDEL', edge.stream, id)
  append_or_delay(edge, string.match(header, '^%S+'), header .. '\n' .. body)
end
for i = first_staying_delayed, last_staying_delayed, 2 do
  local name, header = ARGV[i], ARGV[i + 1]
  redis.call('HSET', edge.bodies, name, header .. behind_header(name))
end
increment(stats, 'in:' .. edge_name, -(n_ids + n_delayed))
put_entries(outboxes, stats, '')
return {1}
