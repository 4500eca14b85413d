-- Keeps the answer of a call, so that the same call sent again, with the same token, gets it again.

local ANSWER_KEPT_MS = 600000

local function packed(value)
  if type(value) == 'table' then
    local words = {'t' .. #value .. ':'}
    for i = 1, #value do words[i + 1] = packed(value[i]) end
    return table.concat(words)
  end
  local text = type(value) == 'number' and string.format('%.0f', value) or tostring(value)
  return string.sub(type(value), 1, 1) .. #text .. ':' .. text
end

local function unpacked(text, at)
  local kind, length, first = string.match(text, '^(%l)(%d+):()', at)
  if kind == 't' then
    local values = {}
    for i = 1, tonumber(length) do values[i], first = unpacked(text, first) end
    return values, first
  end
  local word = string.sub(text, first, first + length - 1)
  return kind == 'n' and tonumber(word) or word, first + length
end

-- The answer kept under a token, nil if the last token was another one.
local function kept_answer(key, token)
  local kept = attempt('GET', key)
  if type(kept) ~= 'string' or string.sub(kept, 1, #token + 1) ~= token .. '\n' then return nil end
  return (unpacked(kept, #token + 2))
end

local function keep_answer(key, token, answer)
  attempt('SET', key, token .. '\n' .. packed(answer), 'PX', ANSWER_KEPT_MS)
end
