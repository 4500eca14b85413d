-- Precedes scripts that read what Redis says of streams and groups, and the fields of entries.

-- Names and values in turn as a table.
local function by_name(words)
  local values = {}
  for w = 1, #words, 2 do values[words[w]] = words[w + 1] end
  return values
end

-- The id of the last entry of a stream that its group has delivered, '0-0' without such a group.
local function last_delivered(stream, group)
  local groups = attempt('XINFO', 'GROUPS', stream)
  for g = 1, groups.err and 0 or #groups do
    local facts = by_name(groups[g])
    if facts.name == group then return facts['last-delivered-id'] end
  end
  return '0-0'
end

