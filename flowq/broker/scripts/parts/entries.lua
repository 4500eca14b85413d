-- Copies entries of streams: those that other programs add may have more fields than one command can carry.

local MOST_WORDS = 7000 -- names and values: unpack() raises at 8000
local FURTHER = 'flowq:further' -- a field that contains the first fields of an entry

-- Words in one text: for each its length, a colon, the word.
local function joined(words)
  local parts = {}
  for w, word in ipairs(words) do parts[w] = #word .. ':' .. word end
  return table.concat(parts)
end

-- The names and values in such a text; nil if another program wrote it.
local function words_of(text)
  local words, position = {}, 1
  while position <= #text do
    local length, first = string.match(text, '^(%d+):()', position)
    if not length or #length > 9 or first + length - 1 > #text then return nil end
    words[#words + 1] = string.sub(text, first, first + length - 1)
    position = first + length
  end
  return #words > 0 and #words % 2 == 0 and words or nil
end

-- All fields of an entry, as they were before `addable`.
local function whole(fields)
  local at
  for f = 1, #fields, 2 do
    if fields[f] == FURTHER then at = f + 1 end
  end
  local all = at and words_of(fields[at])
  if not all then return fields end
  for f = 1, #fields, 2 do
    if f + 1 ~= at then all[#all + 1], all[#all + 2] = fields[f], fields[f + 1] end
  end
  return all
end

-- The same fields, few enough for XADD. Those that flowq reads itself stay fields: of equal names the last one counts.
local function addable(fields)
  if #fields <= MOST_WORDS then return fields end
  local last = {}
  for f = 1, #fields, 2 do last[fields[f]] = f end
  local first_kept, kept, further = #fields - MOST_WORDS + 11, {}, {}
  for f = 1, #fields, 2 do
    local name, value = fields[f], fields[f + 1]
    if f >= first_kept or (last[name] == f and string.find(name, '^[behx]$')) then
      kept[#kept + 1], kept[#kept + 2] = name, value
    else
      further[#further + 1], further[#further + 2] = name, value
    end
  end
  kept[#kept + 1], kept[#kept + 2] = FURTHER, joined(further)
  return kept
end

-- The entry with this id, nil if the stream has none.
local function entry_at(stream, id) return redis.call('XRANGE', stream, id, id)[1] end

-- Whether the publisher of an entry has counted it. flowq does; entries of other programs are counted when they end.
local function is_counted(fields)
  local header = by_name(fields).h
  return header ~= nil and string.find(header, '^%S+ %S+ %S+ %d+') ~= nil
end
