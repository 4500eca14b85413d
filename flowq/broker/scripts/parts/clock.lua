-- The clock of Redis, which stands still while a script runs. Read when first needed.

local cached_us, cached_ms

-- Microseconds since 1970.
local function now_us()
  if not cached_us then
    local time = redis.call('TIME')
    cached_us = time[1] * 1000000 + time[2]
  end
  return cached_us
end

-- Milliseconds since 1970.
local function now_ms()
  cached_ms = cached_ms or math.floor(now_us() / 1000)
  return cached_ms
end
