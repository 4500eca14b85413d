-- Settle finished deliveries of one edge: the only way in which a message that was read ends.
--
-- Promise: each delivery is settled once, and what follows from it (outputs, delay, dead letter, release, counters)
-- happens in the same atomic step or not at all. Sending the same call again changes nothing: deliveries that are
-- settled already count 0. A caller that must know whether its own call settled them sends a token: the same token
-- again gets the same answer.
--
-- Order matters. Lua never rolls back, so everything that could raise is checked before the first write. The first
-- write is XACK: it is the fence against a second settlement, and Redis allows it when memory is full, which lets the
-- rest of the script pass as well.
--
-- `references`: to large bodies that are released, each with a line break; '\n' for none, '' without a claim store.
-- `n_foreign`: entries that no publisher has counted. `n_filtered`: how many of the done deliveries were filtered.
-- `n_retries`: other deliveries of kind D. `n_repeated`: outputs that are left out, since another output of the call has
-- their value. `keep_count` is 0 if the stage keeps no messages, `keep_ms` is 0 if it keeps them without a time limit.
-- ARGV  ..., the ids of the done deliveries; for each other one: id, kind, header, extra;
--       for each target: outputs, then delayed outputs (see enter)
-- kind  D delayed for the first word of `extra` ms because it has failed; the second word is the kind of its error. The
--         header ends where the time of the failure belongs
--       P delayed for `extra` ms   Q queued for the pacing key `extra`
--       R released   X dead letter with the reason `extra`
-- mode  1 many deliveries at once, by one XACK. Correct only while this worker is registered: a reclaim removes the
--         registration in the step in which it claims. A group that was created again by hand removes no
--         registration, only what was pending: so the first delivery must still be this worker's.
--       2 the same call again: only its kept answer is wanted
--       0 one unit: a single delivery, or the deliveries of one batch. All of it must still be this worker's. XACK does
--         not ask whose an entry is, and the success of a late owner would be counted again by the batch of the new
--         owner, which cannot see that one of its many was acknowledged before.
-- Answer {acked, others settled, then for each target its outstanding messages}; {-1} if mode 1 or 2 cannot settle or
--        answer: nothing was changed

local LONGEST_QUEUE_MS = 86400000 -- a queued message is woken long before

local group, worker, mode, token, stage, own_edge, references = next_arguments(7)
local n_foreign, n_done, n_filtered, n_others, n_retries, n_targets, keep_ms, keep_count = next_numbers(8)
local workers, stats, stream = next_keys('hash', 'hash', 'stream')
local edge, dead, queue = {stream = stream}, nil, nil
if n_others > 0 then edge.delayed, edge.bodies, dead, queue = next_keys('zset', 'hash', 'stream', 'zset') end
local failures, run
if n_retries > 0 then failures, run = next_keys('hash', 'hash') end
local targets = {}
for t = 1, n_targets do
  local name = next_arguments(1)
  local seen_ms, n_bytes, n_places, n_outputs, n_delayed, n_repeated = next_numbers(6)
  local target = next_target(seen_ms, n_bytes, n_places)
  target.name, target.n_outputs, target.n_delayed, target.n_repeated = name, n_outputs, n_delayed, n_repeated
  targets[t] = target
end
local released = references ~= '' and next_keys('stream')
local kept = keep_count > 0 and next_keys('stream')
local answered = token ~= '' and next_keys('string')
local kept_before = answered and kept_answer(answered, token)
if kept_before or mode == '2' then return kept_before or {-1} end
check_permissions({'HINCRBY', 'HSET', 'XDEL'})
if n_others > 0 then check_permissions({'DEL', 'TIME', 'XACK', 'XADD', 'XPENDING', 'ZADD', 'ZSCORE'}) end
if n_targets > 0 then check_permissions({'TIME', 'XADD', 'XLEN', 'ZADD', 'ZCARD', 'ZSCORE'}) end
check_permissions_to_deduplicate(targets)
if kept then check_permissions({'TIME', 'XADD', 'XTRIM'}) end
if n_others > 0 or kept or released then check_permissions(TO_REOPEN) end
if answered then check_permissions({'SET'}) end

local is_batch = mode == '1'
local first_id, last_id = next_range(n_done)
if is_batch then
  if redis.call('HEXISTS', workers, worker) == 0 then return {-1} end
  if owner_of(stream, group, ARGV[first_id]) ~= worker then return {-1} end -- the next argument, whatever it belongs to
end

if failures then forget_failures_of_other_runs(failures, run) end

-- The others: delayed, queued, released, dead

local name_for = n_others > 0
  and function(header, id)
    local name = string.match(header, '^%S+')
    return redis.call('ZSCORE', edge.delayed, name) and name .. ':' .. id or name -- an entry that was copied by hand
  end

local others, failed = 0, {}
for _ = 1, n_others do
  local id, kind, header, extra = next_arguments(4)
  local entry = (is_batch or owner_of(stream, group, id) == worker) and (entry_at(stream, id) or {})
  if entry and redis.call('XACK', stream, group, id) == 1 then
    others = others + 1
    redis.call('XDEL', stream, id)
    local fields = whole(entry[2] or {})
    local body = by_name(fields).b
    if kind == 'X' or not body then
      append(dead, letter_of(own_edge, kind == 'X' and extra or '{"reason":"payload missing"}', fields, header))
      increment(stats, 'dead:' .. stage, 1)
    elseif kind == 'R' then
      append_or_delay(edge, name_for(header, id), delayed_form(header, body, fields))
      increment(stats, 'released:' .. stage, 1)
    else
      local name = name_for(header, id)
      if kind == 'D' then header = header .. string.format('%.0f', now_ms()) end
      local due_ms = now_ms() + (kind == 'Q' and LONGEST_QUEUE_MS or string.match(extra, '^%d+'))
      delay(edge, due_ms, name, delayed_form(header, body, fields))
      if kind == 'Q' then
        redis.call('ZADD', queue, 0, table.concat({extra, string.format('%016.0f', now_us()), own_edge, name}, '\n'))
      end
      if kind == 'D' then
        increment(stats, 'retries:' .. stage, 1)
        note_failure(failed, string.match(extra, '%w+$'), due_ms, header)
      end
    end
  end
end
for error, noted in pairs(failed) do count_failures(failures, run, stage, error, noted) end

-- Deliveries that are done: last, because then the entries of the others are no longer in the way of a trim

local acked, are_ours = 0, n_done > 0
for i = first_id, is_batch and 0 or last_id do
  are_ours = are_ours and owner_of(stream, group, ARGV[i]) == worker
end
if are_ours then
  for first = first_id, last_id, 4000 do -- unpack() raises at 8000
    acked = acked + redis.call('XACK', stream, group, unpack(ARGV, first, math.min(first + 3999, last_id)))
  end
  if acked > 0 then
    if kept then keep_copies(kept, stream, first_id, last_id, keep_ms, keep_count) end
    remove_entries(stream, group, first_id, last_id)
    increment(stats, 'ok:' .. stage, n_done - n_filtered)
    increment(stats, 'filtered:' .. stage, n_filtered)
  end
end
if acked + others > 0 then increment(stats, 'in:' .. own_edge, n_foreign) end

-- The outputs

local answer = {acked, others}
for _, target in ipairs(targets) do
  if acked > 0 then
    local n = target.n_outputs + target.n_delayed + target.n_repeated
    local added = enter(target, target.n_outputs, 0)
    if target.n_delayed > 0 then added = added + enter(target, target.n_delayed) end
    increment(stats, 'in:' .. target.name, added)
    increment(stats, 'duplicates:' .. target.name, n - added)
    count_replaced(stats, target)
    increment(stats, 'out:' .. stage, n)
  end
  answer[#answer + 1] = outstanding_on(target)
end
if released and acked > 0 then release_bodies(released, references) end
if answered then keep_answer(answered, token, answer) end
return answer
