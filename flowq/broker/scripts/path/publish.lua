-- Append messages to edges from outside.
--
-- Promise: all of a call or nothing, and once: a call with a token that was used before changes nothing and answers the
-- same. For that the score of a token has the time in front of the point, and how many were duplicates behind it. A full edge refuses the whole call. Refused by Redis itself when memory is full.
--
-- A source that can go on where it was moves its cursor in the same step, and only from where it left it itself: two
-- workers that run one source, or one that wakes up after another has taken over, append nothing twice. Nor does one
-- that has no cursor go on when the source has been given to another worker.
--
-- When it has finished, that is noted in the same step as the last of what it gave.
--
-- KEYS  1 stats  2 published  3 cursors  4 run, then for each edge: stream, seen, delayed, parked, dead; last, where
--       large bodies lie in the claim store: released
-- ARGV  token ('' for none), token window in ms, delay in ms, source ('' when not published by a source),
--       field of the cursor ('' for none), the cursor as it must be ('' for none yet), as it shall be,
--       what to note when the source has finished ('' when it has not), number of edges,
--       for each edge: edge, stage, maxsize (0 for none), seen_ms (0: does not deduplicate, -1:
--       remembers until told otherwise), number of messages, of dead letters
--       for each edge: its messages (header, body, hash if it deduplicates), its dead letters (header, body, info)
--       the worker that runs the source ('' when not published by one)
-- Answer {1, appended, duplicates}, {0, outstanding, edge} when one is full, or {-1} when the cursor is elsewhere, or
-- the source with another worker

local DUPLICATES_PER_MS = 4096 -- a double has 12 bits to spare behind the milliseconds of this century
local WANTED = {'hash', 'zset', 'hash', 'hash'}
local WANTED_OF_EDGE = {'stream', 'set', 'zset', 'hash', 'stream'}
for i = 1, #KEYS do
  local wanted = WANTED[i] or WANTED_OF_EDGE[(i - 5) % 5 + 1]
  if wanted == 'set' and tonumber(ARGV[6 * ((i - 1) / 5) + 7]) > 0 then wanted = 'zset' end -- see seen_ms
  local wrong = wrong_type(KEYS[i], wanted)
  if wrong then return wrong end
end

local stats, published, cursors, run = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, window_ms, delay_ms, source = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local field, cursor, next_cursor = ARGV[5], ARGV[6], ARGV[7]
local finished, n_edges = ARGV[8], tonumber(ARGV[9])

if token ~= '' and redis.call('ZSCORE', published, token) then
  -- A write, and no more: WAIT after it then waits for replicas to have everything up to here. On a new connection
  -- that has written nothing, it would answer at once.
  redis.call('ZINCRBY', published, 1, token)
  local n, score = 0, tonumber(redis.call('ZSCORE', published, token))
  for e = 1, n_edges do n = n + ARGV[8 + 6 * e] + ARGV[9 + 6 * e] end
  local duplicates = math.floor(score % 1 * DUPLICATES_PER_MS + 0.5)
  return {1, n - duplicates, duplicates}
end
if field ~= '' and (redis.call('HGET', cursors, field) or '') ~= cursor then return {-1} end
local runner = ARGV[#ARGV]
if runner ~= '' and (redis.call('HGET', run, 'runner:' .. source) or runner) ~= runner then return {-1} end
for e = 1, n_edges do
  local maxsize = tonumber(ARGV[6 + 6 * e])
  if maxsize > 0 then
    local outstanding = redis.call('XLEN', KEYS[5 * e]) + redis.call('ZCARD', KEYS[5 * e + 2])
    if outstanding >= maxsize then return {0, outstanding, ARGV[4 + 6 * e]} end
  end
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if token ~= '' then
  redis.call('ZADD', published, now_ms, token)
  redis.call('ZREMRANGEBYSCORE', published, '-inf', now_ms - window_ms)
end
if next_cursor ~= cursor then redis.call('HSET', cursors, field, next_cursor) end
if finished ~= '' then redis.call('HSET', run, 'source:' .. source, finished) end

local function count(name, n)
  if n ~= 0 then increase(stats, name, n) end
end

-- Whether a hash is not remembered. From now on it is, for a while. A message without one is like no other.
local function is_unseen(seen, seen_ms, hash)
  if seen_ms == 0 or hash == '' then return true end
  if seen_ms < 0 then return redis.call('SADD', seen, hash) == 1 end
  local until_ms = redis.call('ZSCORE', seen, hash)
  if until_ms and tonumber(until_ms) > now_ms then return false end
  redis.call('ZADD', seen, now_ms + seen_ms, hash)
  return true
end

-- Forget what is old: more than was added, so that it shrinks, and never so much that others wait.
local function forget_old(seen, n)
  local old = redis.call('ZCOUNT', seen, '-inf', now_ms)
  if old > 0 then redis.call('ZREMRANGEBYRANK', seen, 0, math.min(old, 1000 + 2 * n) - 1) end
end

local released, unneeded = KEYS[5 + 5 * n_edges], {} -- references to bodies of duplicates
local all, all_appended = 0, 0
local at = 10 + 6 * n_edges
for e = 1, n_edges do
  local stream, seen, delayed, parked, dead =
    KEYS[5 * e], KEYS[5 * e + 1], KEYS[5 * e + 2], KEYS[5 * e + 3], KEYS[5 * e + 4]
  local edge, stage, seen_ms = ARGV[4 + 6 * e], ARGV[5 + 6 * e], tonumber(ARGV[7 + 6 * e])
  local n, n_dead = tonumber(ARGV[8 + 6 * e]), tonumber(ARGV[9 + 6 * e])
  local appended, width = 0, seen_ms ~= 0 and 3 or 2
  for i = at, at + width * n - 1, width do
    local header, body = ARGV[i], ARGV[i + 1]
    local message_id = delay_ms > 0 and string.match(header, '^%S+')
    local is_delayed_already = message_id and redis.call('ZSCORE', delayed, message_id)
    if not is_delayed_already and is_unseen(seen, seen_ms, ARGV[i + 2]) then
      if message_id then
        redis.call('ZADD', delayed, now_ms + delay_ms, message_id)
        redis.call('HSET', parked, message_id, header .. '\n' .. body)
      else
        if try('XADD', stream, '*', 'h', header, 'b', body).err and not append(stream, {'h', header, 'b', body}) then
          park(delayed, parked, now_ms, string.match(header, '^%S+'), header .. '\n' .. body)
        end
      end
      appended = appended + 1
    elseif released and string.find(header, ' e=file', 1, true) then
      unneeded[#unneeded + 1] = body .. '\n'
    end
  end
  if seen_ms > 0 then forget_old(seen, n) end
  at = at + width * n
  for i = at, at + 3 * n_dead - 1, 3 do
    append(dead, {'e', edge, 'h', ARGV[i], 'b', ARGV[i + 1], 'x', ARGV[i + 2]})
  end
  at = at + 3 * n_dead
  count('in:' .. edge, appended + n_dead)
  count('dead:' .. stage, n_dead)
  count('duplicates:' .. edge, n - appended)
  all, all_appended = all + n + n_dead, all_appended + appended
  if source ~= '' then count('out:' .. source, n + n_dead) end
end
if #unneeded > 0 then append(released, {'r', table.concat(unneeded)}) end
local n_duplicates = all - all_appended
if token ~= '' and n_duplicates > 0 then
  redis.call('ZINCRBY', published, math.min(n_duplicates, DUPLICATES_PER_MS - 1) / DUPLICATES_PER_MS, token)
end
return {1, all_appended, n_duplicates}
