-- The clock of Redis, which stands still while a script runs.

local cached_us

-- Microseconds since 1970.
local function now_us()
  if not cached_us then
    local time = redis.call('TIME')
    cached_us = time[1] * 1000000 + time[2]
  end
  return cached_us
end

-- Milliseconds since 1970.
local function now_ms() return math.floor(now_us() / 1000) end
