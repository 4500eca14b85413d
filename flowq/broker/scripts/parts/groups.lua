-- Reads what Redis reports about consumer groups.

-- A flat list of names and values as a table. Of equal names the last one counts.
local function by_name(words)
  local values = {}
  for w = 1, #words, 2 do values[words[w]] = words[w + 1] end
  return values
end

-- The id of the last entry that the group of a stream has delivered, '0-0' without this group.
local function last_delivered(stream, group)
  local groups = attempt('XINFO', 'GROUPS', stream)
  for g = 1, groups.err and 0 or #groups do
    local info = by_name(groups[g])
    if info.name == group then return info['last-delivered-id'] end
  end
  return '0-0'
end

-- The answer of XPENDING, empty without this group.
local function pending_in(stream, group, ...)
  local pending = attempt('XPENDING', stream, group, ...)
  return pending.err and {} or pending
end

-- The consumer that an entry is pending for, nil if there is none.
local function owner_of(stream, group, id)
  local row = pending_in(stream, group, id, id, 1)[1]
  return row and row[2]
end

-- How many entries are pending, and a list of {consumer, count}.
local function pending_summary(stream, group)
  local pending = pending_in(stream, group)
  return pending[1] or 0, pending[4] or {}
end
