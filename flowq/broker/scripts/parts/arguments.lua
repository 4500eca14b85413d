-- Reads KEYS and ARGV from left to right, so that each value is named where it is read.

local n_keys_read, n_read = 0, 0

-- The next keys, each of the type given here. Raises if a key is of another type: every script reads its keys before
-- it writes, since Lua never rolls back.
local function next_keys(...)
  local first = n_keys_read + 1
  n_keys_read = n_keys_read + select('#', ...)
  for k = first, n_keys_read do
    local found, expected = redis.call('TYPE', KEYS[k]).ok, select(k - first + 1, ...)
    if found ~= expected and found ~= 'none' then
      error('FLOWQ_WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. expected, 0)
    end
  end
  return unpack(KEYS, first, n_keys_read)
end

-- The next edge in KEYS: its stream, its delayed messages, and their bodies (`parked` in Redis).
local function next_edge()
  local stream, delayed, bodies = next_keys('stream', 'zset', 'hash')
  return {stream = stream, delayed = delayed, bodies = bodies}
end

-- The first and the last position of the next n arguments, which are read one by one.
local function next_range(n)
  n_read = n_read + n
  return n_read - n + 1, n_read
end

-- The next n arguments.
local function next_arguments(n) return unpack(ARGV, next_range(n)) end

-- The next n arguments, which are numbers.
local function next_numbers(n)
  local first, last = next_range(n)
  local numbers = {}
  for i = first, last do numbers[i - first + 1] = tonumber(ARGV[i]) end
  return unpack(numbers)
end
