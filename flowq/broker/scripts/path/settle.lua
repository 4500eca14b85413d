-- Settle finished deliveries of one edge: the one write path of a message that has been read.
--
-- Promise: each delivery is settled once, and what follows from it (outputs, delay, dead letter, release, counters)
-- happens in the same atomic step or not at all. Sending the same call again changes nothing.
--   What is settled already is answered by 0. Whoever must know that it was this call which did it sends a token: the
--   same token again gets the same answer.
--
-- Order matters. Lua never rolls back, so whatever could raise is checked before the first write. The first write is
-- XACK: it is the fence against a second settlement, and Redis allows it when memory is full, which lets the rest of
-- the script pass as well.
--
-- fenced = 1: many deliveries at once, by one XACK. Right only while this worker is still registered: a reclaim takes
--   the registration away in the step in which it claims. A group that somebody has made again by hand takes nobody's
--   registration away, but what was pending: so the first of them must still be this worker's. Answers {-1} when it
--   is not, and nothing is changed.
-- fenced = 0: one unit, which is a single delivery or the deliveries of one batch call. All of it must still be this
--   worker's. XACK does not ask whose an entry is, and the success of a late owner would be counted again by the
--   new owner's batch, which cannot see that one of its many was acknowledged before.
--
-- KEYS  1 workers  2 stats  3 stream  4 delayed  5 parked  6 dead  7 queue, then for each target: stream, seen, delayed, parked;
--       then released, where large bodies lie in the claim store; then kept, where the stage keeps messages; then, with
--       a token, where the last token and its answer are kept
-- ARGV  group, worker, fenced (with :token; 2:token only asks for the answer to it, {-1} if it is not known), stage, edge, n_foreign (entries that no publisher counted), number of targets,
--       n_ok, n_filtered, n_other, references to bodies that are released (each with a line break, '' without the key),
--       for each target: edge, seen_ms (0: does not deduplicate, -1: remembers until told
--       otherwise), n_outputs, n_delayed
--       ids of the ok, then of the filtered deliveries
--       for each other: id, kind, header, extra     kind: D delay (extra = ms)  P postpone (ms)  Q queue (pacing key)
--                                        R release  X bury (info)
--       for each target: outputs (header, body, hash if it deduplicates),
--                        delayed outputs (message id, ms, header, body, hash if it deduplicates)
--       if the stage keeps messages: for how many ms (0: no limit), and how many
-- Answer {acked, others settled, then for each target its waiting, running and delayed messages}

local mode, token = string.match(ARGV[3], '^(%d):?(.*)$')
local answered = token ~= '' and table.remove(KEYS)
local ANSWERED_MS = 600000
if answered then
  local before = redis.call('GET', answered)
  if before and string.sub(before, 1, #token + 1) == token .. ' ' then
    local answer = {}
    for word in string.gmatch(string.sub(before, #token + 2), '%S+') do answer[#answer + 1] = tonumber(word) end
    return answer
  end
  if mode == '2' then return {-1} end
end

local WANTED = {'hash', 'hash', 'stream', 'zset', 'hash', 'stream', 'zset'}
local WANTED_OF_TARGET = {'stream', 'set', 'zset', 'hash'}
local LONGEST_QUEUE_MS = 86400000 -- who queues is called long before
for i = 1, #KEYS do
  local wanted = WANTED[i] or (i - 8 < 4 * ARGV[7] and WANTED_OF_TARGET[(i - 8) % 4 + 1]) or 'stream'
  if wanted == 'set' and tonumber(ARGV[i + 4]) > 0 then wanted = 'zset' end -- see seen_ms
  local wrong = wrong_type(KEYS[i], wanted)
  if wrong then return wrong end
end
local denied = unpermitted()
if denied then return denied end

local stats, stream, delayed, parked, dead = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group, worker, fenced, stage, own_edge = ARGV[1], ARGV[2], mode == '1', ARGV[4], ARGV[5]
local n_foreign, n_targets = tonumber(ARGV[6]), tonumber(ARGV[7])
local n_ok, n_filtered, n_other = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local n_done = n_ok + n_filtered
local at = 12 + 4 * n_targets -- the first id
local released = ARGV[11] ~= '' and KEYS[8 + 4 * n_targets]
local kept = KEYS[(released and 9 or 8) + 4 * n_targets] -- only where the stage keeps what it has settled

local function count(field, n)
  if n ~= 0 then increase(stats, field, n) end
end

local function owner(id)
  local pending = attempt('XPENDING', stream, group, id, id, 1) -- an error when the group is gone: nobody's
  return pending[1] and pending[1][2]
end

if fenced and (redis.call('HEXISTS', KEYS[1], worker) == 0 or owner(ARGV[at]) ~= worker) then return {-1} end

local now_ms, now_us
local function now()
  if not now_ms then
    local time = redis.call('TIME')
    now_ms, now_us = time[1] * 1000 + math.floor(time[2] / 1000), time[1] * 1000000 + time[2]
  end
  return now_ms
end

-- The deliveries that are done

local acked = 0
if n_done > 0 then
  local whole = true
  if not fenced then
    for i = at, at + n_done - 1 do whole = whole and owner(ARGV[i]) == worker end
  end
  if whole then
    for first = at, at + n_done - 1, 4000 do
      local last = math.min(first + 3999, at + n_done - 1)
      acked = acked + redis.call('XACK', stream, group, unpack(ARGV, first, last))
    end
  end
  if acked > 0 then
    if kept then
      for i = at, at + n_done - 1 do
        local entry = redis.call('XRANGE', stream, ARGV[i], ARGV[i])[1]
        if entry then append(kept, entry[2]) end
      end
      local keep_ms, keep_count = tonumber(ARGV[#ARGV - 1]), ARGV[#ARGV]
      if keep_ms > 0 then redis.call('XTRIM', kept, 'MINID', '~', string.format('%.0f', now() - keep_ms)) end
      redis.call('XTRIM', kept, 'MAXLEN', '~', keep_count)
    end
    for first = at, at + n_done - 1, 4000 do
      redis.call('XDEL', stream, unpack(ARGV, first, math.min(first + 3999, at + n_done - 1)))
    end
    count('ok:' .. stage, n_ok)
    count('filtered:' .. stage, n_filtered)
  end
end

-- The others: delayed, postponed, released, buried

local function name_for(header, id)
  local name = string.match(header, '^%S+')
  return redis.call('ZSCORE', delayed, name) and name .. ':' .. id or name -- an entry copied by hand
end

local others = 0
at = at + n_done
for i = at, at + 4 * n_other - 1, 4 do
  local id, kind, header, extra = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if fenced or owner(id) == worker then
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if redis.call('XACK', stream, group, id) == 1 then
      others = others + 1
      redis.call('XDEL', stream, id)
      local fields, body = entry and whole(entry[2]) or {}, nil
      for f = 1, #fields, 2 do
        if fields[f] == 'b' then body = fields[f + 1] end
      end
      if kind == 'X' or not body then
        local letter = {'e', own_edge, 'h', header, 'x', kind == 'X' and extra or '{"reason":"payload missing"}'}
        if body then letter[7], letter[8] = 'b', body end
        for f = 1, #fields, 2 do
          if fields[f] ~= 'h' and fields[f] ~= 'b' then
            letter[#letter + 1] = 'f:' .. fields[f]
            letter[#letter + 1] = fields[f + 1]
          end
        end
        append(dead, letter)
        count('dead:' .. stage, 1)
      elseif kind == 'R' then
        local value = parked_form(header, body, fields)
        if not append_parked(stream, value) then park(delayed, parked, now(), name_for(header, id), value) end
        count('released:' .. stage, 1)
      else
        local name = name_for(header, id)
        redis.call('ZADD', delayed, now() + (kind == 'Q' and LONGEST_QUEUE_MS or tonumber(extra)), name)
        redis.call('HSET', parked, name, parked_form(header, body, fields))
        if kind == 'Q' then
          redis.call('ZADD', KEYS[7], 0, table.concat({extra, string.format('%016.0f', now_us), own_edge, name}, '\n'))
        end
        if kind == 'D' then count('retries:' .. stage, 1) end
      end
    end
  end
end

-- Whether a hash is not remembered. From now on it is, for a while. A message without one is like no other.
local function is_unseen(seen, seen_ms, hash)
  if hash == '' then return true end
  if seen_ms < 0 then return redis.call('SADD', seen, hash) == 1 end
  local until_ms = redis.call('ZSCORE', seen, hash)
  if until_ms and tonumber(until_ms) > now() then return false end
  redis.call('ZADD', seen, now() + seen_ms, hash)
  return true
end

-- Forget what is old: more than was added, so that it shrinks, and never so much that others wait.
local function forget_old(seen, n)
  local old = redis.call('ZCOUNT', seen, '-inf', now())
  if old > 0 then redis.call('ZREMRANGEBYRANK', seen, 0, math.min(old, 1000 + 2 * n) - 1) end
end

-- The outputs

local answer = {acked, others}
local unneeded = {ARGV[11]} -- the references of what is done, and of duplicates
if acked + others > 0 then count('in:' .. own_edge, n_foreign) end
at = at + 4 * n_other
for target = 1, n_targets do
  local to, seen = KEYS[4 + 4 * target], KEYS[5 + 4 * target]
  local to_delayed, to_parked = KEYS[6 + 4 * target], KEYS[7 + 4 * target]
  local about = 8 + 4 * target
  local edge, seen_ms = ARGV[about], tonumber(ARGV[about + 1])
  local n_outputs, n_delayed = tonumber(ARGV[about + 2]), tonumber(ARGV[about + 3])
  local width = seen_ms ~= 0 and 3 or 2
  local next_at = at + width * n_outputs + (width + 2) * n_delayed
  if acked > 0 then
    local appended = 0
    for i = at, at + width * n_outputs - 1, width do
      if seen_ms == 0 or is_unseen(seen, seen_ms, ARGV[i + 2]) then
        if try('XADD', to, '*', 'h', ARGV[i], 'b', ARGV[i + 1]).err and not append(to, {'h', ARGV[i], 'b', ARGV[i + 1]}) then
          park(to_delayed, to_parked, now(), string.match(ARGV[i], '^%S+'), ARGV[i] .. '\n' .. ARGV[i + 1])
        end
        appended = appended + 1
      elseif released and string.find(ARGV[i], ' e=file', 1, true) then
        unneeded[#unneeded + 1] = ARGV[i + 1] .. '\n'
      end
    end
    for i = at + width * n_outputs, next_at - 1, width + 2 do
      if seen_ms == 0 or is_unseen(seen, seen_ms, ARGV[i + 4]) then
        redis.call('ZADD', to_delayed, now() + tonumber(ARGV[i + 1]), ARGV[i])
        redis.call('HSET', to_parked, ARGV[i], ARGV[i + 2] .. '\n' .. ARGV[i + 3])
        appended = appended + 1
      elseif released and string.find(ARGV[i + 2], ' e=file', 1, true) then
        unneeded[#unneeded + 1] = ARGV[i + 3] .. '\n'
      end
    end
    if seen_ms > 0 then forget_old(seen, n_outputs + n_delayed) end
    count('in:' .. edge, appended)
    count('duplicates:' .. edge, n_outputs + n_delayed - appended)
    count('out:' .. stage, n_outputs + n_delayed)
  end
  answer[#answer + 1] = redis.call('XLEN', to) + redis.call('ZCARD', to_delayed)
  at = next_at
end
if released and acked > 0 and (ARGV[11] ~= '\n' or #unneeded > 1) then
  append(released, {'r', table.concat(unneeded)})
end
if answered then redis.call('SET', answered, token .. ' ' .. table.concat(answer, ' '), 'PX', ANSWERED_MS) end
return answer
