-- Add messages to one edge from outside: the fast path of most calls, at two fifths of the cost in Redis. It serves calls
-- that neither deduplicate nor delay, have no source, and wait for no replica.
--
-- Promise: that of publish.lua. Whatever needs more (a token that was used, a stream to recreate, a counter to restart, an
-- error to raise) is left to that script: then nothing is changed, and the answer says so. So a few commands and functions
-- are enough; they are most of what publish.lua costs with one message. ZADD and HINCRBY check and write at once, and are
-- taken back if a later command fails, by commands that are known to be permitted then. So there is less to check before.
--
-- KEYS  stats, published, edge, delayed
-- ARGV  token, id of the call ('' for none), edge, maxsize, how long tokens are kept; for each message: header, body
-- Answer {1, added}, {0, outstanding} when the edge is full, {-2} when publish.lua has to do it

local stats, published, stream, delayed = unpack(KEYS)
local token, call_id, edge, maxsize, token_kept_ms = unpack(ARGV, 1, 5)
local call, counter, n = redis.call, 'in:' .. edge, (#ARGV - 5) / 2

-- The reply of a command that fails is a table.
local outstanding, n_delayed = try('XLEN', stream), try('ZCARD', delayed)
if type(outstanding) ~= 'number' or type(n_delayed) ~= 'number' then return {-2} end
outstanding, maxsize = outstanding + n_delayed, tonumber(maxsize)
if maxsize > 0 and outstanding >= maxsize then
  if try('ZSCORE', published, token) or type(try('HLEN', stats)) ~= 'number' then return {-2} end
  return {0, outstanding}
end

local is_permitted = redis.acl_check_cmd -- before Redis 7 there is none
if is_permitted and not is_permitted('ZREMRANGEBYSCORE', published) then return {-2} end
if is_permitted and n > 1 and not is_permitted('XDEL', stream) then return {-2} end
if try('ZADD', published, 'NX', now_ms(), token) ~= 1 then return {-2} end
if call_id ~= '' then call('ZADD', published, now_ms(), call_id) end
local is_counted = type(try('HINCRBY', stats, counter, n)) == 'number'
local id = is_counted and try('XADD', stream, '*', 'h', ARGV[6], 'b', ARGV[7])
local is_added = type(id) == 'string'
-- Near the largest possible id, the next message of this call could be refused.
if not is_added or (n > 1 and string.find(id, '-', 1, true) > 20) then
  if is_added then call('XDEL', stream, id) end
  if is_counted then call('HINCRBY', stats, counter, -n) end
  call('ZADD', published, 0, token) -- ZREM might not be permitted
  if call_id ~= '' then call('ZADD', published, 0, call_id) end
  call('ZREMRANGEBYSCORE', published, '-inf', now_ms() - token_kept_ms)
  return {-2}
end
for i = 8, #ARGV, 2 do call('XADD', stream, '*', 'h', ARGV[i], 'b', ARGV[i + 1]) end
call('ZREMRANGEBYSCORE', published, '-inf', now_ms() - token_kept_ms)
return {1, n}
