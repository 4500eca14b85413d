-- Wrapped around each script whose second run would do something else than its first.
--
-- Promise: a call that is sent again, because its reply was lost, changes nothing and gets the answer that was lost.
-- The last key keeps the token of the last call that was answered under it, and the answer, for ten minutes; the last
-- argument is the token of this call. A script that returns `false` as its second value has changed nothing that a
-- second run would not find as it was: nothing is kept then.

local kept_at, token = table.remove(KEYS), table.remove(ARGV)
local KEPT_MS = 600000

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

local kept = attempt('GET', kept_at)
if type(kept) == 'string' and string.sub(kept, 1, #token + 1) == token .. '\n' then
  local answer = unpacked(kept, #token + 2)
  return answer
end

local function run()
--[[ the script ]]
end

local answer, is_news = run()
if is_news ~= false and not (type(answer) == 'table' and answer.err) then
  attempt('SET', kept_at, token .. '\n' .. packed(answer), 'PX', KEPT_MS)
end
return answer
