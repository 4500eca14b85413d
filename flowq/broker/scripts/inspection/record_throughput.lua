-- Add to the record of the last half minute: a few hashes in rotation, each for some seconds, which expire.
--
-- Promise: the first worker that writes into a period copies the counters into it, so that a reader can tell how much
-- they have grown. Values of another run, or of an earlier rotation, are never mixed in.
--
-- `in_handlers` says how many messages of which stages are in the handlers of `worker` now: "fetch 10 parse 2". The edges
-- are those whose messages are counted, once in a period.

check_permissions(COMMANDS)
local period_ms = next_numbers(1)
local worker, in_handlers = next_arguments(2)
local n_edges = next_numbers(1)
local edges = {next_arguments(n_edges)}
local stats, run = unpack(KEYS, 1, 2)
local n_hashes = #KEYS - 2 - 2 * n_edges
local period = math.floor(now_ms() / period_ms)
local record = KEYS[3 + period % n_hashes]
local run_id = redis.call('HGET', run, 'id') or ''
local name = string.format('%d %s', period, run_id)

if redis.call('HGET', record, 'period') ~= name then
  local counters = redis.call('HGETALL', stats)
  redis.call('DEL', record)
  redis.call('HSET', record, 'period', name, 'run', run_id, 'at', string.format('%d', now_ms()))
  for i = 1, #counters, 2 do redis.call('HSET', record, 'was ' .. counters[i], counters[i + 1]) end
  redis.call('PEXPIRE', record, period_ms * (n_hashes - 1))
end
if n_edges > 0 and redis.call('HSETNX', record, 'counted_at', string.format('%d', now_ms())) == 1 then
  for e, edge in ipairs(edges) do
    local k = 1 + n_hashes + 2 * e
    local n, n_delayed = attempt('XLEN', KEYS[k]), attempt('ZCARD', KEYS[k + 1])
    if type(n) == 'number' and type(n_delayed) == 'number' then
      redis.call('HSET', record, 'outstanding:' .. edge, n + n_delayed)
    end
  end
end
if worker ~= '' then redis.call('HSET', record, '@' .. worker, in_handlers) end
for _ = 5 + n_edges, #ARGV, 2 do increment(record, next_arguments(2)) end
return 1
