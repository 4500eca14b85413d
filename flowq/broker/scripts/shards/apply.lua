-- Apply entries of the outbox that another shard has for this one: the only way in which a message gets here from there.
--
-- Promise: each entry is applied once, after the one before it, however often and by however many it is sent. `inbox` has the last one
-- that was applied, and moves in the same step. An entry whose `before` is not applied yet is refused, and all behind it:
-- something is missing in between. Messages are accepted however many wait here, else shards could wait for each other.
-- When memory is full, the first write is refused, so that nothing was done.
--
-- A shard that has forgotten entries which it had put into an outbox goes on with a new epoch. Its first entry names a
-- `before` that lies behind the cursor: what was applied since comes twice, and is counted as `again:SHARD`.
--
-- What `flowq apply` moves was no duplicate where it was, and is none here: two messages of one id may be delayed at once.
--
-- KEYS  ..., for each edge those that next_described reads
-- ARGV  ..., for each edge its descriptor; for each entry: id, id before it, messages sent up to it, groups; for each of these:
--       descriptor of its edge, outputs, delayed outputs, outputs that were left out as duplicates, messages (see enter)
-- Answer {1, cursor, entries applied, then for each edge its outstanding messages}; the same with -1 if there is a gap;
--        {-2} if this shard has another layout: nothing was changed

local from, layout = next_arguments(2)
local n_edges, n_entries = next_numbers(2)
local stats, heads, inbox, released = next_keys('hash', 'hash', 'hash', 'stream')
local known_layout = redis.call('HGET', heads, 'layout')
if known_layout and known_layout ~= layout then return {-2} end

local MOVED = 'moved' -- in the place of places

-- The next edge in KEYS, as its descriptor says: name, how long its stage remembers, by how many bytes, places.
local function next_described(descriptor)
  local name, seen_ms, n_bytes, places = string.match(descriptor, '^(%S+) (%-?%d+) (%d+) (%S*)$')
  local edge = next_edge()
  edge.name, edge.seen_ms, edge.n, edge.added = name, tonumber(seen_ms), 0, 0
  if edge.seen_ms ~= 0 then
    edge.seen, edge.latest = next_seen(edge.seen_ms, tonumber(n_bytes), places ~= '')
  end
  edge.is_moved = places == MOVED
  for place in string.gmatch(edge.is_moved and '' or places, '[^,]+') do
    edge.places = edge.places or {}
    local other = next_edge()
    other.name, other.n_replaced = place, 0
    edge.places[#edge.places + 1] = other
  end
  return edge
end

local edges, edge_of = {}, {}
for e = 1, n_edges do
  local descriptor = next_arguments(1)
  edges[e] = next_described(descriptor)
  edge_of[descriptor] = edges[e]
end

-- Which entries are new, and where in ARGV their messages are. All that could raise comes before the first write.

local cursor, got = position_of(redis.call('HGET', inbox, from) or nil)
cursor, got = cursor or NO_ID, tonumber(got or 0)
local at_epoch, at_number = parts_of_id(cursor)

local function is_applied(id)
  local epoch, number = parts_of_id(id)
  return epoch < at_epoch or (epoch == at_epoch and number <= at_number)
end

local status, applied, again, groups = 1, 0, 0, {}
for _ = 1, n_entries do
  local id, before = next_arguments(2)
  local total, n_groups = next_numbers(2)
  local is_new, n_messages = not is_applied(id), 0
  if is_new and not is_applied(before) then
    status = -1
    break
  end
  for _ = 1, n_groups do
    local edge = edge_of[next_arguments(1)]
    local n_outputs, n_delayed, n_repeated = next_numbers(3)
    local width = edge.seen_ms ~= 0 and 3 or 2
    if is_new and n_outputs + n_delayed + n_repeated > 0 then
      groups[#groups + 1] = {edge = edge, first = n_read, n_outputs = n_outputs, n_delayed = n_delayed}
    end
    next_range(n_outputs * width + n_delayed * (width + 1))
    n_messages = n_messages + n_outputs + n_delayed + n_repeated
    if is_new then edge.n = edge.n + n_outputs + n_delayed + n_repeated end
  end
  if n_read > #ARGV then error('FLOWQ_CUT_OFF entry ' .. id .. ' of the outbox of shard ' .. from, 0) end
  if is_new then
    again = again + math.max(0, got - (total - n_messages))
    cursor, got, applied = id, total, applied + 1
    at_epoch, at_number = parts_of_id(id)
  end
end

if applied > 0 then
  check_permissions({'HINCRBY', 'HSET', 'TIME', 'XADD', 'XLEN', 'ZADD', 'ZCARD', 'ZSCORE'})
  check_permissions(TO_REOPEN)
  check_permissions_to_deduplicate(edges)
end

-- What comes to an edge is entered together, since each call of `enter` costs as much as several messages. Delayed messages and
-- those of which the last one counts keep their place in the order of all.
local runs, run_of = {}, {}
for _, group in ipairs(groups) do
  local edge = group.edge
  local is_alone = group.n_delayed > 0 or edge.places
  local run = not is_alone and run_of[edge]
  if not run then
    run = {edge = edge, n_outputs = 0, n_delayed = group.n_delayed}
    runs[#runs + 1], run_of[edge] = run, not is_alone and run or nil
  end
  run[#run + 1], run.n_outputs = group, run.n_outputs + group.n_outputs
end

-- Have the messages of a run be the next that are read: as they are, or copied behind each other to the end of ARGV.
local function go_to(run)
  n_read = run[1].first
  if #run == 1 then return end
  n_read = #ARGV
  local at, width = n_read, run.edge.seen_ms ~= 0 and 3 or 2
  for _, group in ipairs(run) do
    for i = group.first + 1, group.first + group.n_outputs * width do
      at = at + 1
      ARGV[at] = ARGV[i]
    end
  end
end

-- Delay the next n messages in ARGV, which were delayed in another shard. Returns how many.
local function delay_moved(edge, n)
  for _ = 1, n do
    local header, body, delay_ms = next_arguments(3)
    local name, due_ms = string.match(header, '^%S*'), now_ms() + delay_ms
    while redis.call('ZADD', edge.delayed, 'NX', due_ms, name) == 0 do name = name .. ':' end
    redis.call('HSET', edge.bodies, name, header .. '\n' .. body)
  end
  return n
end

for _, run in ipairs(runs) do
  local edge = run.edge
  go_to(run)
  edge.added = edge.added + enter(edge, run.n_outputs, 0)
  if run.n_delayed > 0 then edge.added = edge.added + (edge.is_moved and delay_moved or enter)(edge, run.n_delayed) end
end
local answer = {status, cursor, applied}
for e, edge in ipairs(edges) do
  if applied > 0 then
    increment(stats, 'in:' .. edge.name, edge.added)
    increment(stats, 'duplicates:' .. edge.name, edge.n - edge.added)
    count_replaced(stats, edge)
  end
  answer[e + 3] = outstanding_on(edge)
end
if applied > 0 then
  increment(stats, 'again:' .. from, again)
  release_bodies(released, '')
  redis.call('HSET', inbox, from, string.format('%s %.0f', cursor, got))
end
return answer
