-- The clock of Redis, which stands still while a script runs: microseconds and milliseconds since 1970.

local redis_time = redis.call('TIME')
local now_us = redis_time[1] * 1000000 + redis_time[2]
local now_ms = math.floor(now_us / 1000)
