-- Read why and when the messages of some stages died.
--
-- Promise: nothing is changed, no message leaves Redis, and a call is short whatever the letters contain: it ends with
-- the letter at which `most_bytes` are exceeded.
--
-- KEYS  the dead letters of each stage
-- ARGV  ..., for each stage: '-', or '(' and the id to continue after. With `most_bytes_of_info` 0 only ids are read
-- Answer {now in ms, for each stage {number of letters, 1 if all of them are read or 0, for each letter: id, info as
-- JSON, '' if it is too large, or false}}

local AT_A_TIME = 10 -- a message may be as large as a megabyte

local most, most_bytes, most_bytes_of_info = next_numbers(3)
local n_bytes = 0

local function info_of(entry)
  local info = by_name(entry[2]).x
  return info and #info > most_bytes_of_info and '' or info or false
end

local function read(dead, after)
  local found = {redis.call('XLEN', dead), 0}
  while most > 0 and n_bytes < most_bytes do
    local asked = math.min(AT_A_TIME, most)
    local entries = redis.call('XRANGE', dead, after, '+', 'COUNT', asked)
    for e, entry in ipairs(entries) do
      for _, word in ipairs(entry[2]) do n_bytes = n_bytes + #word end
      after, most = '(' .. entry[1], most - 1
      found[#found + 1], found[#found + 2] = entry[1], info_of(entry)
      if n_bytes >= most_bytes and e < #entries then return found end
    end
    if #entries < asked then
      found[2] = 1
      break
    end
  end
  return found
end

local answer = {now_ms()}
for k = 1, #KEYS do answer[k + 1] = read(next_keys('stream'), next_arguments(1)) end
return answer
