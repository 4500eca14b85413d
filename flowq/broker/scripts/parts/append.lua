-- Adds entries to streams and to delayed messages. A stream whose last id is the largest possible accepts no entry.
-- Every program that may write to Redis can cause that, and Lua does not roll back what was done before XADD fails.

local FIRST_FAR_ID = '10000000000000000000-0' -- in 300 million years
local PER_CALL = 100
local TO_REOPEN = {'DEL', 'RENAME', 'XDEL', 'XGROUP CREATE', 'XINFO GROUPS', 'XRANGE'}
local AGAIN_MS = 1000 -- until a message that its stream did not accept is tried again

-- Create a stream again with the same entries and groups; entries from the far future are added as if they came now.
-- (Redis does not let the last id go back once an entry with it was deleted.) Returns false while a worker has an entry,
-- which it will settle in the group that it knows; that does not take long, since nothing can be added. Also returns
-- false if this user may not do it, which was not checked before, since hardly any stream ever gets here.
local function reopen(stream)
  if forbidden_among(TO_REOPEN) then return false end
  local groups = {}
  for g, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    groups[g] = by_name(group)
    if groups[g].name == 'flowq' and groups[g].pending > 0 then return false end
  end
  local old, last = stream .. ':full', '0-0'
  redis.call('RENAME', stream, old)
  local function copy(from, to, new_id)
    repeat
      local entries = redis.call('XRANGE', old, from, to, 'COUNT', PER_CALL)
      for _, entry in ipairs(entries) do
        redis.call('XADD', stream, new_id or entry[1], unpack(addable(entry[2])))
        redis.call('XDEL', old, entry[1])
        last = entry[1]
      end
    until #entries < PER_CALL
  end
  copy('-', '(' .. FIRST_FAR_ID)
  for _, group in ipairs(groups) do
    local delivered = group['last-delivered-id']
    redis.call('XGROUP', 'CREATE', stream, group.name, #string.match(delivered, '^%d*') == 20 and last or delivered, 'MKSTREAM')
  end
  copy(FIRST_FAR_ID, '+', '*')
  redis.call('DEL', old)
  return true
end

-- Add an entry. Returns its id, or nil if the stream accepts none for now: then the caller keeps it elsewhere.
local function append(stream, fields)
  fields = addable(fields)
  local id = attempt('XADD', stream, '*', unpack(fields))
  if id.err and string.find(id.err, 'last possible ID', 1, true) then
    if not reopen(stream) then return nil end
    id = attempt('XADD', stream, '*', unpack(fields))
  end
  if id.err then error(id.err, 0) end
  return id
end

-- Ends the header of a delayed message that has more fields than header and body: all but the header follow it.
local HAS_FIELDS = ' b=fields'

-- A message in the form in which delayed ones are stored: header, line break, body. `fields` are those of its entry.
local function delayed_form(header, body, fields)
  if #fields == 4 and fields[1] == 'h' and fields[3] == 'b' then return header .. '\n' .. body end
  local words = {'b', body}
  for f = 1, #fields, 2 do
    if fields[f] ~= 'h' and fields[f] ~= 'b' then words[#words + 1], words[#words + 2] = fields[f], fields[f + 1] end
  end
  if #words == 2 then return header .. '\n' .. body end
  return header .. HAS_FIELDS .. '\n' .. joined(words)
end

-- Add a delayed message to its stream. Without a line break all of it is the body. Returns its id, or nil.
local function append_delayed(stream, value)
  local newline = string.find(value, '\n', 1, true)
  if not newline then return append(stream, {'b', value}) end
  local header, body = string.sub(value, 1, newline - 1), string.sub(value, newline + 1)
  local fields = string.sub(header, -#HAS_FIELDS) == HAS_FIELDS and words_of(body)
  if not fields then return append(stream, {'h', header, 'b', body}) end
  table.insert(fields, 1, string.sub(header, 1, -#HAS_FIELDS - 1))
  table.insert(fields, 1, 'h')
  return append(stream, fields)
end

-- Store a delayed message. `edge` is a table of keys.
local function delay(edge, due_ms, name, value)
  redis.call('ZADD', edge.delayed, due_ms, name)
  redis.call('HSET', edge.bodies, name, value)
end

-- Delay a message that its stream does not accept, until it is tried again.
local function delay_again(edge, name, value)
  while redis.call('ZADD', edge.delayed, 'NX', now_ms() + AGAIN_MS, name) == 0 do name = name .. ':' end
  redis.call('HSET', edge.bodies, name, value)
end

-- Add a message in its delayed form to the stream of its edge, or delay it. Returns its id if it is in the stream.
local function append_or_delay(edge, name, value)
  local id = append_delayed(edge.stream, value)
  if not id then delay_again(edge, name, value) end
  return id
end
