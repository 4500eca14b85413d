-- Stands before each script that copies entries: what other programs add may have more fields than one call can carry.

local MOST_WORDS = 7000 -- names and values: unpack() raises at 8000
local FURTHER = 'flowq:further' -- a field that has the first fields of an entry: for each word its length, a colon, the word

-- All fields of an entry, as they were before `addable`.
local function whole(fields)
  local all, at = {}, nil
  for f = 1, #fields, 2 do
    if fields[f] == FURTHER then at = f + 1 end
  end
  if not at then return fields end
  local text, position = fields[at], 1
  while position <= #text do
    local length, first = string.match(text, '^(%d+):()', position)
    if not length then return fields end -- not ours
    all[#all + 1] = string.sub(text, first, first + length - 1)
    position = first + length
  end
  for f = 1, #fields, 2 do
    if f + 1 ~= at then all[#all + 1], all[#all + 2] = fields[f], fields[f + 1] end
  end
  return all
end

-- The same fields as XADD takes them. What flowq itself reads stays where it is found: of equal names the last counts.
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
      further[#further + 1] = #name .. ':' .. name .. #value .. ':' .. value
    end
  end
  kept[#kept + 1], kept[#kept + 2] = FURTHER, table.concat(further)
  return kept
end

-- Whether whoever has published an entry has counted it: flowq has, what other programs add is counted when it is settled.
local function is_counted(fields)
  local header
  for f = 1, #fields, 2 do
    if fields[f] == 'h' then header = fields[f + 1] end
  end
  return header ~= nil and string.find(header, '^%S+ %S+ %S+ %d+') ~= nil
end

