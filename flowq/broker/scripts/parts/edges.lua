-- Adds messages to edges, except duplicates.

-- The next edge in KEYS that gets messages, with the hashes that its stage has seen. `seen_ms`: for how long it remembers
-- them (0: it does not deduplicate, -1: until the next run).
local function next_target(seen_ms)
  local edge = next_edge()
  edge.seen, edge.seen_ms = seen_ms ~= 0 and next_keys(seen_ms > 0 and 'zset' or 'set'), seen_ms
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
  local expired = redis.call('ZCOUNT', edge.seen, '-inf', now_ms())
  if expired > 0 then redis.call('ZREMRANGEBYRANK', edge.seen, 0, math.min(expired, 1000 + 2 * n_added) - 1) end
end

-- Add the next n messages in ARGV to an edge, except duplicates. Returns how many were added. Each message is a header,
-- a body, its hash if the edge deduplicates, and its delay in ms unless `delay_ms` applies to all.
local function enter(edge, n, delay_ms)
  local stream, deduplicates, added = edge.stream, edge.seen_ms ~= 0, 0
  local width = (deduplicates and 3 or 2) + (delay_ms and 0 or 1)
  local first, last = next_range(width * n)
  for i = first, last, width do
    local header, body = ARGV[i], ARGV[i + 1]
    local own_delay_ms = delay_ms or tonumber(ARGV[i + width - 1])
    local name = own_delay_ms > 0 and string.match(header, '^%S+')
    local is_there = name and redis.call('ZSCORE', edge.delayed, name)
    if is_there or (deduplicates and not is_unseen(edge, ARGV[i + 2])) then
      note_unneeded(header, body)
    else
      if name then
        delay(edge, now_ms() + own_delay_ms, name, header .. '\n' .. body)
      elseif try('XADD', stream, '*', 'h', header, 'b', body).err then
        append_or_delay(edge, string.match(header, '^%S+'), header .. '\n' .. body)
      end
      added = added + 1
    end
  end
  if edge.seen_ms > 0 then expire_seen(edge, n) end
  return added
end
