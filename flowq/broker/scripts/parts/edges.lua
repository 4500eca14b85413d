-- Adds messages to edges, except duplicates.

-- The next edge in KEYS that gets messages, with what its stage has seen. `seen_ms`: for how long it remembers a message
-- (0: it does not deduplicate, -1: until the next run); `n_bytes`: by how much of its hash. `n_places`: 0, or the number
-- of all edges of a stage that handles the last message of a hash. Their keys follow, and their names are the next
-- arguments.
local function next_target(seen_ms, n_bytes, n_places)
  local edge = next_edge()
  edge.seen_ms = seen_ms
  if seen_ms ~= 0 then
    edge.seen, edge.latest = next_seen(seen_ms, n_bytes, n_places > 0)
  end
  if n_places > 0 then
    edge.places = {}
    for p = 1, n_places do
      edge.places[p] = next_edge()
      edge.places[p].name, edge.places[p].n_replaced = next_arguments(1), 0
    end
  end
  return edge
end

-- Check what the stages of these edges call because they deduplicate: see check_permissions.
local function check_permissions_to_deduplicate(edges)
  for _, edge in ipairs(edges) do
    if edge.seen then check_permissions(edge.seen.commands) end
    if edge.latest then check_permissions({'HDEL', 'HGET', 'HSET', 'XDEL', 'XPENDING', 'XRANGE', 'ZREM', 'ZSCORE'}) end
  end
end

-- How many messages wait, run or are delayed on an edge.
local function outstanding_on(edge) return redis.call('XLEN', edge.stream) + redis.call('ZCARD', edge.delayed) end

-- For a stage that handles the last message of a hash: note where a message was added, the id of its entry, or that it
-- is delayed.
local function note_place(edge, hash, id, header)
  if hash ~= '' then
    local place = (id or '') .. ' ' .. string.match(header, '^%S+')
    redis.call('HSET', edge.latest, (edge.seen:place_of(hash)), place)
  end
end

-- The word of a header that names the hash of its message. A dead letter that was put back has none to rely on: its body
-- may have been edited.
local function hash_word(header) return not string.find(header, ' p=', 1, true) and string.match(header .. ' ', ' k=(%S+) ') end

-- Take the message with the hash of `header` out of the edge on which it was added, unless a worker has it or it has
-- been settled: it waits there still, or is delayed. Its name alone would not do to find it: the user may have given
-- that to another message since. Returns whether it was taken out.
local function take_out(edge, hash, header)
  local field, other = edge.seen:place_of(hash)
  local place = redis.call('HGET', edge.latest, field) or (other and redis.call('HGET', edge.latest, other))
  local id, name = string.match(place or '', '^(%S*) (%S+)$')
  for _, place in ipairs(name and edge.places or {}) do
    local entry = id ~= '' and attempt('XRANGE', place.stream, id, id)[1]
    local value = not entry and redis.call('ZSCORE', place.delayed, name) and redis.call('HGET', place.bodies, name)
    local old, body = string.match(value or '', '^([^\n]*)\n(.*)$')
    if entry and not owner_of(place.stream, 'flowq', id) then
      local fields = by_name(entry[2])
      old, body = fields.h, fields.b
    end
    if old and hash_word(old) == hash_word(header) then
      if entry then
        redis.call('XDEL', place.stream, id)
      else
        redis.call('ZREM', place.delayed, name)
        redis.call('HDEL', place.bodies, name)
      end
      note_unneeded(old, body)
      place.n_replaced = place.n_replaced + 1
      edge.seen:see_again(hash, edge.seen_ms)
      return true
    end
  end
  return false
end

-- Count the messages that were taken out: each is a duplicate of the one that entered in its place.
local function count_replaced(stats, edge)
  for _, place in ipairs(edge.places or {}) do
    increment(stats, 'in:' .. place.name, -place.n_replaced)
    increment(stats, 'duplicates:' .. place.name, place.n_replaced)
  end
end

-- Add the next n messages in ARGV to an edge, except duplicates. Returns how many were added. Each message is a header,
-- a body, its hash if the edge deduplicates, and its delay in ms unless `delay_ms` applies to all. Where the last message
-- of a hash is handled, the header has the word k=HASH, in whatever form.
local function enter(edge, n, delay_ms)
  local stream, deduplicates, keeps_last, added = edge.stream, edge.seen_ms ~= 0, edge.latest, 0
  local width = (deduplicates and 3 or 2) + (delay_ms and 0 or 1)
  local first, last = next_range(width * n)
  local known = deduplicates and edge.seen:packed_among(ARGV, first + 2, last, width)
  for i = first, last, width do
    local header, body = ARGV[i], ARGV[i + 1]
    local own_delay_ms = delay_ms or tonumber(ARGV[i + width - 1])
    local name = own_delay_ms > 0 and string.match(header, '^%S+')
    local is_there = name and redis.call('ZSCORE', edge.delayed, name)
    local is_seen = not is_there
      and deduplicates
      and (known[ARGV[i + 2]] or not edge.seen:is_unseen(ARGV[i + 2], edge.seen_ms))
    if is_there or (is_seen and not (keeps_last and take_out(edge, ARGV[i + 2], header))) then
      note_unneeded(header, body)
    else
      local id
      if name then
        delay(edge, now_ms() + own_delay_ms, name, header .. '\n' .. body)
      else
        id = try('XADD', stream, '*', 'h', header, 'b', body)
        if id.err then id = append_or_delay(edge, string.match(header, '^%S+'), header .. '\n' .. body) end
      end
      if keeps_last then note_place(edge, ARGV[i + 2], id, header) end
      added = added + 1
    end
  end
  if deduplicates then edge.seen:keep(n) end
  return added
end
