-- Transfer some of what a stage has seen to the stage that replaces it, which may have seen something itself.
--
-- Promise: each call is one atomic step, the transfer as a whole is not. At any time a value is remembered by one of the
-- two, with a ttl until the later of two moments; but neither stage looks at what the other one has. So a message that is
-- pushed to the new stage before the last call may be taken for new although the old one has seen its value: pause the
-- pipeline, and let no program push, until all is done. The same call again changes nothing. A value of which only a few
-- bytes were stored (`exact=False`) is forgotten by a stage that stores more.
--
-- KEYS  of the old stage: what it has seen, unpacked, workers; the same of the new stage
-- ARGV  1 with a ttl, else 0; the first bucket; how many buckets
-- Answer: the next bucket, or 0 when all is done

local timed, from, n = next_numbers(3)
local seen_ms = timed == 1 and 1 or -1
local old, new = next_seen(seen_ms, 10), next_seen(seen_ms, 10) -- where nothing is stored yet, nothing is added

-- `is_valid`: whether the new stage uses the other key; if not, what is there belongs to an earlier run.
local function unite(key, new_key, is_valid)
  if redis.call('EXISTS', key) == 0 then
    if not is_valid then redis.call('DEL', new_key) end
    return
  elseif not is_valid then
    redis.call('RENAME', key, new_key)
    return
  elseif timed == 1 then
    redis.call('ZUNIONSTORE', new_key, 2, key, new_key, 'AGGREGATE', 'MAX')
  else
    redis.call('SUNIONSTORE', new_key, key, new_key)
  end
  redis.call('DEL', key)
end

-- Note that a packed stage has something unpacked.
local function unpack_later(key)
  local about = string.gsub(redis.call('HGET', key, 'about'), '^(%d+ %d+ %d+) [01]', '%1 1')
  redis.call('HSET', key, 'about', about)
end

if old.is_missing then return 0 end
check_permissions({'DEL', 'EXISTS', 'HDEL', 'HGET', 'HSET', 'RENAME', timed == 1 and 'ZUNIONSTORE' or 'SUNIONSTORE'})
if not (old.is_plain or new.is_plain) then check_permissions(old.is_unpacked and old.commands or new.commands) end
if new.is_missing then new.is_plain = false end -- whatever the form it would have: nothing is stored yet
if old.is_plain and (new.is_plain or new.is_missing) then
  unite(old.key, new.key, new.is_plain)
elseif old.is_plain then
  unite(old.key, new.unpacked, new.is_unpacked)
  unpack_later(new.key)
elseif new.is_plain or new.is_new then
  if new.is_plain then unite(new.key, new.unpacked, false) end
  redis.call('RENAME', old.key, new.key)
  if old.is_unpacked then unite(old.unpacked, new.unpacked, new.is_plain) end
  if new.is_plain then unpack_later(new.key) end
else
  if old.is_unpacked then
    unite(old.unpacked, new.unpacked, new.is_unpacked)
    new.is_unpacked, new.is_changed = true, true
  end
  for bucket = from, math.min(from + n, old.n_buckets) - 1 do
    local text = redis.call('HGET', old.key, bucket)
    if text then new:add_from(old, bucket, text) end
    redis.call('HDEL', old.key, bucket)
  end
  new:keep(0)
  if from + n < old.n_buckets then return from + n end
  redis.call('DEL', old.key)
end
return 0
