-- Add messages to edges from outside.
--
-- Promise: all of a call or nothing, and once: a call whose token was used before changes nothing and gets the same
-- answer. For that, the score of a token has the time before the point and the number of duplicates behind it. A call
-- with an id of its own also learns whether it was itself that used the token. A full edge refuses the whole call; so
-- does Redis itself when memory is full.
--
-- A resumable source moves its cursor in the same step, and only from where it left it itself: two workers that run one
-- source, or one that wakes up after another has taken over, add nothing twice. A source without a cursor stops when it
-- was assigned to another worker. When it has finished, that is recorded in the same step as its last messages.
--
-- ARGV  token ('' for none), id of the call ('' for none), source ('' if there is none), the worker that runs it
--       ('' if there is none), field of the cursor ('' for none), the cursor as it must be ('' for none yet), as it shall be,
--       what to record when the source has finished ('' when it has not), ...;
--       for each edge: its messages (see enter), its dead letters
-- Answer {1, added, duplicates, 1, or 0 if an earlier call had the token}, {0, outstanding, edge} when an edge is full,
--        {-1} when the cursor is not where it must be or another worker runs the source

local DUPLICATES_PER_MS = 4096 -- a double has 12 bits to spare behind the milliseconds of this century

local token, call_id, source, runner, cursor_field, cursor, next_cursor, finished = next_arguments(8)
local token_kept_ms, delay_ms, n_edges, can_release = next_numbers(4)
local stats, published = next_keys('hash', 'zset')
local cursors, run
if source ~= '' then cursors, run = next_keys('hash', 'hash') end
local edges, n_all, n_dead = {}, 0, 0
for e = 1, n_edges do
  local name, stage = next_arguments(2)
  local maxsize, seen_ms, n_bytes, n_places, n_messages, n_letters = next_numbers(6)
  local edge = next_target(seen_ms, n_bytes, n_places)
  edge.name, edge.stage, edge.maxsize, edge.dead = name, stage, maxsize, n_letters > 0 and next_keys('stream')
  edge.n_messages, edge.n_letters = n_messages, n_letters
  edges[e], n_all, n_dead = edge, n_all + n_messages + n_letters, n_dead + n_letters
end
local released = can_release == 1 and next_keys('stream')

-- A token that is too old may still be there: only a call that stores something removes it.
local stored_ms = token ~= '' and redis.call('ZSCORE', published, token)
if stored_ms and tonumber(stored_ms) > now_ms() - token_kept_ms then
  -- A write, and no more: WAIT after it then waits until replicas have everything up to here. On a new connection that
  -- has written nothing, it would answer at once.
  redis.call('ZINCRBY', published, 1, token)
  local score = tonumber(redis.call('ZSCORE', published, token))
  local duplicates = math.floor(score % 1 * DUPLICATES_PER_MS + 0.5)
  local is_ours = call_id == '' or redis.call('ZSCORE', published, call_id)
  return {1, n_all - duplicates, duplicates, is_ours and 1 or 0}
end
if cursor_field ~= '' and (redis.call('HGET', cursors, cursor_field) or '') ~= cursor then return {-1} end
if runner ~= '' and (redis.call('HGET', run, 'runner:' .. source) or runner) ~= runner then return {-1} end
for _, edge in ipairs(edges) do
  if edge.maxsize > 0 then
    local outstanding = outstanding_on(edge)
    if outstanding >= edge.maxsize then return {0, outstanding, edge.name} end
  end
end

check_permissions({'HINCRBY', 'HSET', 'TIME', 'XADD', 'ZADD'})
check_permissions(token ~= '' and {'ZINCRBY', 'ZREMRANGEBYSCORE'} or {'ZSCORE'})
check_permissions_to_deduplicate(edges)
if n_dead > 0 or released then check_permissions(TO_REOPEN) end
if token ~= '' then
  redis.call('ZADD', published, now_ms(), token)
  if call_id ~= '' then redis.call('ZADD', published, now_ms(), call_id) end
  redis.call('ZREMRANGEBYSCORE', published, '-inf', now_ms() - token_kept_ms)
end
if next_cursor ~= cursor then redis.call('HSET', cursors, cursor_field, next_cursor) end
if finished ~= '' then redis.call('HSET', run, 'source:' .. source, finished) end

local duplicates = 0
for _, edge in ipairs(edges) do
  local n, n_letters = edge.n_messages, edge.n_letters
  local added = enter(edge, n, delay_ms)
  for _ = 1, n_letters do
    local header, body, reason = next_arguments(3)
    append(edge.dead, letter_of(edge.name, reason, {'b', body}, header))
  end
  increment(stats, 'in:' .. edge.name, added + n_letters)
  increment(stats, 'dead:' .. edge.stage, n_letters)
  increment(stats, 'duplicates:' .. edge.name, n - added)
  count_replaced(stats, edge)
  if source ~= '' then increment(stats, 'out:' .. source, n + n_letters) end
  duplicates = duplicates + n - added
end
if released then release_bodies(released, '') end
if token ~= '' and duplicates > 0 then
  redis.call('ZINCRBY', published, math.min(duplicates, DUPLICATES_PER_MS - 1) / DUPLICATES_PER_MS, token)
end
return {1, n_all - duplicates, duplicates, 1}
