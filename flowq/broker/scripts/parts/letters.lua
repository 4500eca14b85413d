-- Builds dead letters.

-- The fields of a dead letter: its edge, the reason as JSON, and the entry. Fields of other programs get the prefix
-- 'f:'. `header` replaces that of the entry.
local function letter_of(edge, reason, fields, header)
  local letter = header and {'e', edge, 'h', header, 'x', reason} or {'e', edge, 'x', reason}
  for f = 1, #fields, 2 do
    local name, value = fields[f], fields[f + 1]
    if not (header and name == 'h') then
      letter[#letter + 1] = (name == 'h' or name == 'b') and name or 'f:' .. name
      letter[#letter + 1] = value
    end
  end
  return letter
end
