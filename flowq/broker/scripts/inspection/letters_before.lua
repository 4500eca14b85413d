-- Read dead letters of a stage, the newest first, with the bodies that they were edited to.
--
-- Promise: nothing is changed, and a call is short whatever the letters contain: it ends with the letter at which
-- `most_bytes` are exceeded, and a larger value does not leave Redis.
--
-- `before` is '+', or '(' and the id to continue before.
-- Answer {1 if there are none before these or 0, for each: {id, fields, its new body or false}}

local AT_A_TIME = 10 -- a message may be as large as a megabyte

local before = next_arguments(1)
local most, most_bytes = next_numbers(2)
local dead, edited = next_keys('stream', 'hash')
local answer, n_bytes = {0}, 0

local function fields_of(entry)
  local fields = {}
  for f = 1, #entry[2], 2 do
    local name, value = entry[2][f], entry[2][f + 1]
    n_bytes = n_bytes + #value
    if string.find(name, '^[behx]$') and #value <= most_bytes then
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
  end
  return fields
end

local function new_body(id)
  local body = redis.call('HGET', edited, id)
  if not body then return false end
  n_bytes = n_bytes + #body
  return #body <= most_bytes and body or ''
end

while most > 0 and n_bytes < most_bytes do
  local asked = math.min(AT_A_TIME, most)
  local entries = redis.call('XREVRANGE', dead, before, '-', 'COUNT', asked)
  for e, entry in ipairs(entries) do
    answer[#answer + 1] = {entry[1], fields_of(entry), new_body(entry[1])}
    before, most = '(' .. entry[1], most - 1
    if n_bytes >= most_bytes and e < #entries then return answer end
  end
  if #entries < asked then
    answer[1] = 1
    break
  end
end
return answer
