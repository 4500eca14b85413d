-- Adds messages to edges, except duplicates.

-- The next edge in KEYS that gets messages, with the hashes that its stage has seen. `seen_ms`: for how long it remembers
-- them (0: it does not deduplicate, -1: until the next run). `n_places`: 0, or the number of all edges of a stage that
-- handles the last message of a hash. Their keys follow, and their names are the next arguments.
local function next_target(seen_ms, n_places)
  local edge = next_edge()
  edge.seen, edge.seen_ms = seen_ms ~= 0 and next_keys(seen_ms > 0 and 'zset' or 'set'), seen_ms
  if n_places > 0 then
    edge.latest, edge.places = next_keys('hash'), {}
    for p = 1, n_places do
      edge.places[p] = next_edge()
      edge.places[p].name, edge.places[p].n_replaced = next_arguments(1), 0
    end
  end
  return edge
end

-- How many messages wait, run or are delayed on an edge.
local function outstanding_on(edge) return redis.call('XLEN', edge.stream) + redis.call('ZCARD', edge.delayed) end

-- Whether an edge has not seen a hash. From now on it has, for a while. A message without a hash is always new.
local function is_unseen(edge, hash)
  if hash == '' then return true end
  if edge.seen_ms < 0 then return redis.call('SADD', edge.seen, hash) == 1 end
  local until_ms, now = redis.call('ZSCORE', edge.seen, hash), now_ms()
  if until_ms and tonumber(until_ms) > now then return false end
  redis.call('ZADD', edge.seen, now + edge.seen_ms, hash)
  return true
end

-- Remove expired hashes: more than were added, so that the set shrinks, but never so many that others wait.
local function expire_seen(edge, n_added)
  local expired = math.min(redis.call('ZCOUNT', edge.seen, '-inf', now_ms()), 1000 + 2 * n_added)
  for first = 0, edge.latest and expired - 1 or -1, 1000 do
    redis.call('HDEL', edge.latest, unpack(redis.call('ZRANGE', edge.seen, first, math.min(first + 1000, expired) - 1)))
  end
  if expired > 0 then redis.call('ZREMRANGEBYRANK', edge.seen, 0, expired - 1) end
end

-- For a stage that handles the last message of a hash: note where a message was added, the id of its entry, or that it
-- is delayed.
local function note_place(edge, hash, id, header)
  if hash ~= '' then redis.call('HSET', edge.latest, hash, (id or '') .. ' ' .. string.match(header, '^%S+')) end
end

-- The word of a header that names the hash of its message. A dead letter that was put back has none to rely on: its body
-- may have been edited.
local function hash_word(header) return not string.find(header, ' p=', 1, true) and string.match(header .. ' ', ' k=(%S+) ') end

-- Take the message with the hash of `header` out of the edge on which it was added, unless a worker has it or it has
-- been settled: it waits there still, or is delayed. Its name alone would not do to find it: the user may have given
-- that to another message since. Returns whether it was taken out.
local function take_out(edge, hash, header)
  local id, name = string.match(redis.call('HGET', edge.latest, hash) or '', '^(%S*) (%S+)$')
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
      if edge.seen_ms > 0 then redis.call('ZADD', edge.seen, now_ms() + edge.seen_ms, hash) end
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
  for i = first, last, width do
    local header, body = ARGV[i], ARGV[i + 1]
    local own_delay_ms = delay_ms or tonumber(ARGV[i + width - 1])
    local name = own_delay_ms > 0 and string.match(header, '^%S+')
    local is_there = name and redis.call('ZSCORE', edge.delayed, name)
    if
      is_there
      or (deduplicates and not is_unseen(edge, ARGV[i + 2]) and not (keeps_last and take_out(edge, ARGV[i + 2], header)))
    then
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
  if edge.seen_ms > 0 then expire_seen(edge, n) end
  return added
end
