-- Add to the record of the last half minute: a few hashes in turn, each for some seconds, that expire by themselves.
--
-- Promise: the first to write into a period copies the counters into it, so that whoever reads the record later can
-- tell by how much they have grown. What belongs to another run, or to an earlier turn, is never mixed in.
--
-- KEYS  1 stats  2 run, then the hashes
-- ARGV  length of a period in ms, then field and number to add

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local period_ms, n_hashes = tonumber(ARGV[1]), #KEYS - 2
local period = math.floor(now_ms / period_ms)
local record = KEYS[3 + period % n_hashes]
local counters = redis.call('HGETALL', KEYS[1])
local run = redis.call('HGET', KEYS[2], 'id') or ''
local name = string.format('%d %s', period, run)

if redis.call('HGET', record, 'period') ~= name then
  redis.call('DEL', record)
  redis.call('HSET', record, 'period', name, 'run', run, 'at', string.format('%d', now_ms))
  for i = 1, #counters, 2 do redis.call('HSET', record, 'was ' .. counters[i], counters[i + 1]) end
  redis.call('PEXPIRE', record, period_ms * (n_hashes - 1))
end
for i = 2, #ARGV, 2 do increase(record, ARGV[i], ARGV[i + 1]) end
return 1
