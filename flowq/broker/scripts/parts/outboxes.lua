-- Puts what a call has for other shards into the outboxes of its own shard: an entry in each, or several if it is large.
--
-- An entry has an id `epoch-number`, and the fields `p`, the id of the entry before it; `n`, how many messages were sent up
-- to and with it; `e`, for each edge a line that says which keys it needs; `w`, how many words `c` has; `c`, the words for
-- apply.lua as RESP. An epoch begins with the first entry that a connection puts. So a server that has forgotten entries in a
-- failover, which ends all connections, never gives their ids to others.

local NO_ID = '0-0'
local LARGEST_EPOCH = '4503599627370495' -- of the year 2109. Ids above were not given here, and Lua cannot count much further
local ENTRIES_PER_CALL = 20

-- The epoch and the number of an id.
local function parts_of_id(id)
  local epoch, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(epoch), tonumber(number)
end

-- A point in the history of a channel, as `heads` and `inbox` store it: an id, and the messages sent up to it. Nil if it
-- is anything else.
local function position_of(text)
  local epoch, number, n = string.match(text or '', '^(%d+)%-(%d+) (%d+)$')
  local is_given = epoch and tonumber(epoch) <= tonumber(LARGEST_EPOCH) and #number < 16 and #n < 16
  if is_given then return epoch .. '-' .. number, n end
end

-- The last entry of an outbox, and how many messages were sent up to it. What `heads` has forgotten, because another program has
-- changed it, the outbox knows: an entry that does not name the one before it could overtake that.
local function head_of(key, noted)
  local id, n = position_of(noted)
  if id then return id, n end
  local last = redis.call('XREVRANGE', key, LARGEST_EPOCH, '-', 'COUNT', 1)[1]
  if last then return last[1], number_of(by_name(last[2]).n) end
  local about = attempt('XINFO', 'STREAM', key) -- short: no entry that it would contain is left
  return about.err and NO_ID or position_of(by_name(about)['last-generated-id'] .. ' 0') or NO_ID, 0
end

-- What this call has for outboxes, taken from the end of KEYS and ARGV, where nothing else looks then. Returns nil when
-- this shard has another layout. One that has none, because it was emptied, goes on.
--
-- KEYS  ..., each outbox, heads
-- ARGV  ..., for each outbox: shard, edges, messages, words, call; then: layout, nonce (-1 if this connection has begun an
--       epoch), the highest epoch that the caller knows, outboxes
local function take_outboxes()
  local pop = table.remove
  local heads, n, floor, nonce, layout = pop(KEYS), tonumber(pop(ARGV)), tonumber(pop(ARGV)), tonumber(pop(ARGV)), pop(ARGV)
  local fields, outboxes = {'layout', 'epoch'}, {}
  for o = n, 1, -1 do
    local call, n_words, n_messages, edges, to = pop(ARGV), pop(ARGV), pop(ARGV), pop(ARGV), pop(ARGV)
    outboxes[o] = {key = pop(KEYS), to = to, edges = edges, n_messages = n_messages, n_words = n_words, call = call}
    local found = redis.call('TYPE', outboxes[o].key).ok
    if found ~= 'stream' and found ~= 'none' then
      error('FLOWQ_WRONGTYPE ' .. outboxes[o].key .. ' is a ' .. found .. ', not a stream', 0)
    end
  end
  for o = 1, n do fields[o + 2] = outboxes[o].to end
  local noted = redis.call('HMGET', heads, unpack(fields)) -- raises if it is of another type
  if noted[1] and noted[1] ~= layout then return nil end
  if n > 0 then
    check_permissions({'DEL', 'HINCRBY', 'HSET', 'RENAME', 'TIME', 'XADD', 'XRANGE'})
  end
  local epoch = number_of(noted[2])
  if epoch > tonumber(LARGEST_EPOCH) then epoch = 0 end
  for o, box in ipairs(outboxes) do
    box.head, box.sent = head_of(box.key, noted[o + 2])
    box.epoch, box.number = parts_of_id(box.head)
    epoch = math.max(epoch, box.epoch)
  end
  outboxes.heads, outboxes.epoch, outboxes.floor, outboxes.nonce = heads, epoch, floor, nonce
  return outboxes
end

-- Make an outbox again with the entries up to its head. Another program has added one above it, below which none can be
-- added.
local function restore_outbox(box)
  local old, from = box.key .. ':full', '-'
  redis.call('RENAME', box.key, old)
  repeat
    local entries = redis.call('XRANGE', old, from, box.head, 'COUNT', ENTRIES_PER_CALL)
    for _, entry in ipairs(entries) do
      redis.call('XADD', box.key, entry[1], unpack(addable(entry[2])))
      from = '(' .. entry[1]
    end
  until #entries < ENTRIES_PER_CALL
  redis.call('DEL', old)
end

-- Put the entries, once everything else of the call is done. Counts their messages as output of `stage`, if there is one.
-- Returns for each: its id, the id before it, and how many messages were sent up to and with it.
local function put_entries(outboxes, stats, stage)
  local epoch, total, put = outboxes.epoch, 0, {}
  if outboxes.nonce >= 0 or epoch == 0 then
    epoch = math.max(epoch + 1, outboxes.floor + 1, now_ms() * 1024 + math.max(0, outboxes.nonce))
  end
  local noted, last = {'epoch', string.format('%.0f', epoch)}, {}
  for o, box in ipairs(outboxes) do
    local earlier = last[box.to] -- of this call
    if earlier then box.head, box.sent, box.epoch, box.number = earlier.id, earlier.sent, epoch, earlier.number end
    local number = box.epoch == epoch and box.number + 1 or 1
    local id = string.format('%.0f-%.0f', epoch, number)
    local sent = string.format('%.0f', box.sent + box.n_messages)
    local fields = {'p', box.head, 'n', sent, 'e', box.edges, 'w', box.n_words, 'c', box.call}
    local err = try('XADD', box.key, id, unpack(fields)).err
    if err then
      err = tostring(err)
      local has_others = string.find(err, 'equal or smaller', 1, true) or string.find(err, 'last possible ID', 1, true)
      if not has_others then error(err, 0) end
      restore_outbox(box)
      redis.call('XADD', box.key, id, unpack(fields))
    end
    last[box.to] = {id = id, sent = sent, number = number}
    noted[#noted + 1], noted[#noted + 2] = box.to, id .. ' ' .. sent
    put[o], total = id .. ' ' .. box.head .. ' ' .. sent, total + box.n_messages
  end
  if total > 0 then redis.call('HSET', outboxes.heads, unpack(noted)) end
  if stage ~= '' then increment(stats, 'out:' .. stage, total) end
  return put
end
