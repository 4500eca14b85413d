-- What deduplicating stages have seen: the first bytes of hashes, packed in buckets, which are the fields of a hash.
--
-- The last bits of a value are the number of its bucket, and a bucket leaves out the whole bytes that follow from its
-- number. When there are too many values for the buckets, the next one in turn is split by one more bit (linear
-- hashing): no step takes long, however many there are. The first bytes are always stored, so that a sharded
-- pipeline can choose the shard of a value by them.
-- With a ttl, a bucket begins with a moment in 6 bytes and the exponent of a unit of 2^n ms, and two more bytes follow
-- each value: how many units after that moment it expires, rounded up.
-- The field `about`: bytes of a value, buckets, values, and 1 while there is something unpacked. With a ttl also by how
-- many ms the clock was set back, when the last value expires, and the bucket in which expired ones were looked for last.
--
-- Earlier versions keep whole hashes in a set, or in a sorted set with the moments at which they expire. While it has
-- the key, all versions use it (`is_plain`). Once take_over_seen.lua has renamed it, it is only read and removed from
-- (`unpacked`), and each call packs some of it.

local VALUES_PER_BUCKET = 24
local MOST_UNITS = 32000 -- of a ttl: a moment then serves for as long again before the two bytes are full
local LARGEST_EXPONENT = 50
local PACKED_PER_CALL = 100
local CAN_READ_PACKED = '"packs_seen":true' -- in the facts of a worker

-- Make the functions of this file: a call without deduplication does not pay for that.
local function load_seen()
  -- The moment and the unit of a bucket; nil where it has none.
  local function times_of(text)
    local a, b, c, d, e, f, exponent = string.byte(text, 1, 7)
    if not exponent or exponent > LARGEST_EXPONENT then return nil end
    return ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f, 2 ^ exponent
  end

  -- The two bytes behind a value; 0 where another program has cut them off.
  local function units_at(text, at)
    local a, b = string.byte(text, at, at + 1)
    return b and a * 256 + b or 0
  end

  -- A number in n bytes.
  local function in_bytes(number, n)
    local bytes = ''
    for _ = 1, n do
      bytes, number = string.char(number % 256) .. bytes, math.floor(number / 256)
    end
    return bytes
  end

  local function measure(seen)
    local _, exponent = math.frexp(seen.n_buckets)
    seen.half, seen.level = 2 ^ (exponent - 1), exponent - 1
    seen.n_split, seen.n_stored = seen.n_buckets - seen.half, seen.n_bytes - math.floor(seen.level / 8)
    seen.n_stored_split = seen.n_bytes - math.floor(exponent / 8)
  end

  local function now(seen) return now_ms() + seen.set_back_ms end

  local function refuse(key)
    error('FLOWQ_WRONGTYPE ' .. key .. ' is a hash whose field "about" was not written by flowq', 0)
  end

  local function read_about(seen, about)
    local n_bytes, n_buckets, n_values, flag, times = string.match(about, '^(%d+) (%d+) (%d+) ([01])(.*)$')
    local bytes, buckets = number_of(n_bytes), number_of(n_buckets)
    if bytes < 5 or bytes > 16 or buckets < 1 or buckets > 2 ^ 32 then refuse(seen.key) end
    seen.is_unpacked = flag == '1'
    if seen.is_timed then
      local set_back_ms, until_ms, swept = string.match(times, '^ (%d+) (%d+) (%d+)$')
      if not swept then refuse(seen.key) end
      seen.set_back_ms, seen.until_ms, seen.swept = number_of(set_back_ms), number_of(until_ms), number_of(swept)
      if seen.until_ms <= now(seen) and not seen.is_unpacked then
        seen.is_new, seen.has_expired = true, true
        return
      end
    end
    seen.n_bytes, seen.n_buckets, seen.n_values = bytes, buckets, number_of(n_values)
  end

  local function bucket_of(seen, hash)
    local a, b, c, d = string.byte(hash, seen.n_bytes - 3, seen.n_bytes)
    local bucket = (((a * 256 + b) * 256 + c) * 256 + d) % (2 * seen.half)
    return bucket < seen.n_buckets and bucket or bucket - seen.half
  end

  -- How many bytes of a value a bucket stores.
  local function stored_in(seen, bucket)
    return (bucket < seen.n_split or bucket >= seen.half) and seen.n_stored_split or seen.n_stored
  end

  -- The text of a bucket without the rest of a value that another program has cut off.
  local function whole_values(seen, bucket, text)
    local n_odd = (#text - seen.first + 1) % (stored_in(seen, bucket) + seen.n_tail)
    return n_odd == 0 and text or string.sub(text, 1, math.max(0, #text - n_odd))
  end

  local function text_of(seen, bucket)
    return seen.texts[bucket] or whole_values(seen, bucket, not seen.is_new and redis.call('HGET', seen.key, bucket) or '')
  end

  local function set_text(seen, bucket, text)
    seen.texts[bucket], seen.is_changed = text, true
    seen.changed[bucket] = true
  end

  -- Where a value is in the text of its bucket, nil if it is not there; and whether it has not expired.
  local function find_value(seen, text, stored)
    local at, width = string.find(text, stored, seen.first, true), #stored + seen.n_tail
    while at and (at - seen.first) % width ~= 0 do
      at = string.find(text, stored, at + 1, true)
    end
    if not at or not seen.is_timed then return at, at ~= nil end
    local moment, unit = times_of(text)
    return at, moment ~= nil and moment + units_at(text, at + #stored) * unit > now(seen)
  end

  -- Which of the hashes at every `step`-th position are packed, by hash. Each is looked for once, all in one step: most
  -- messages of a crawl end here, many of them links that are on every page.
  local function packed_among(seen, hashes, from, to, step)
    local known, asked, buckets, n = {}, {}, {}, 0
    seen.known = known
    if seen.is_new or seen.is_plain then return known end
    local byte, find, sub = string.byte, string.find, string.sub
    local at_byte, n_bytes, n_buckets, half = seen.n_bytes - 3, seen.n_bytes, seen.n_buckets, seen.half
    local texts, first, n_stored, is_timed = seen.texts, seen.first, seen.n_stored, seen.is_timed
    local is_mixed, modulus = n_stored ~= seen.n_stored_split, 2 * half
    for h = from, to, step do
      local hash = hashes[h]
      if known[hash] == nil then
        local a, b, c, d = byte(hash, at_byte, n_bytes)
        local bucket = d and (((a * 256 + b) * 256 + c) * 256 + d) % modulus or 0
        n = n + 1
        known[hash], asked[n], buckets[n] = false, hash, bucket < n_buckets and bucket or bucket - half
      end
    end
    for n_before = 0, n - 1, 1000 do
      local found = redis.call('HMGET', seen.key, unpack(buckets, n_before + 1, math.min(n_before + 1000, n)))
      for f = 1, #found do
        local text, hash, bucket = found[f], asked[n_before + f], buckets[n_before + f]
        local stored = sub(hash, 1, is_mixed and stored_in(seen, bucket) or n_stored)
        -- Searching for nothing would find it everywhere, without end.
        local is_known = text and hash ~= '' and find(text, stored, first, true)
        if is_known and (is_timed or (is_known - first) % #stored ~= 0) then
          is_known = select(2, find_value(seen, text, stored))
        end
        known[hash] = is_known
        if not is_known then texts[bucket] = texts[bucket] or whole_values(seen, bucket, text or '') end
      end
    end
    return known
  end

  -- Remove what has expired from a bucket. Returns the text that remains.
  local function expire_in(seen, bucket, text)
    local width = stored_in(seen, bucket) + 2
    local moment, unit = times_of(text)
    local n_units = moment and (now(seen) - moment) / unit or 65536
    local kept, from, n_expired = {}, 1, 0
    for at = seen.first, #text, width do
      if units_at(text, at + width - 2) <= n_units then
        kept[#kept + 1], from, n_expired = string.sub(text, from, at - 1), at + width, n_expired + 1
        if seen.latest then
          local stored = string.sub(text, at, at + width - 3)
          redis.call('HDEL', seen.latest, stored .. in_bytes(bucket, seen.n_bytes - #stored))
        end
      end
    end
    if n_expired == 0 then return text end
    seen.n_values = math.max(0, seen.n_values - n_expired)
    kept[#kept + 1] = string.sub(text, from)
    text = table.concat(kept)
    return #text >= seen.first and text or ''
  end

  -- Give a bucket a moment and a unit that fit a value which expires at `last_ms`.
  local function with_new_times(seen, bucket, text, last_ms)
    local width, values = stored_in(seen, bucket) + 2, {}
    local moment, unit = times_of(text)
    for at = seen.first, moment and #text or 0, width do
      local expires_ms = moment + units_at(text, at + width - 2) * unit
      values[#values + 1] = {string.sub(text, at, at + width - 3), expires_ms}
      last_ms = math.max(last_ms, expires_ms)
    end
    last_ms = math.min(last_ms, now(seen) + MOST_UNITS * 2 ^ LARGEST_EXPONENT) -- another program may have changed the text
    local exponent = 0
    while last_ms - now(seen) > MOST_UNITS * 2 ^ exponent do
      exponent = exponent + 1
    end
    unit = 2 ^ exponent
    moment = now(seen) - now(seen) % unit -- so that values in units of the same length are not rounded again
    local parts = {in_bytes(moment, 6), string.char(exponent)}
    for _, value in ipairs(values) do
      parts[#parts + 1] = value[1] .. in_bytes(math.ceil((value[2] - moment) / unit), 2)
    end
    return table.concat(parts)
  end

  -- Split the next bucket in turn: about half of its values go to a new one.
  local function split_bucket(seen)
    local bucket, n_read, n_kept = seen.n_split, seen.n_stored, seen.n_stored_split
    local text, bit, sub, byte = text_of(seen, bucket), 2 ^ (seen.level % 8), string.sub, string.byte
    local stay, go = {sub(text, 1, seen.first - 1)}, {sub(text, 1, seen.first - 1)}
    for at = seen.first, #text, n_read + seen.n_tail do
      local value = sub(text, at, at + n_kept - 1)
      if seen.is_timed then value = value .. sub(text, at + n_read, at + n_read + 1) end
      local part = byte(text, at + n_read - 1) % (2 * bit) < bit and stay or go
      part[#part + 1] = value
    end
    set_text(seen, bucket, #stay > 1 and table.concat(stay) or '')
    set_text(seen, bucket + seen.half, #go > 1 and table.concat(go) or '')
    seen.n_buckets = seen.n_buckets + 1
    measure(seen)
  end

  -- Remember a value, with a ttl until `last_ms`. `at`: where it is in the text of its bucket, if it is there.
  local function remember(seen, bucket, at, text, stored, last_ms)
    if seen.is_timed then
      local width = #stored + 2
      if at then text, seen.n_values = string.sub(text, 1, at - 1) .. string.sub(text, at + width), seen.n_values - 1 end
      if (#text - 7) / width % 8 == 7 then text = expire_in(seen, bucket, text) end
      local moment, unit = times_of(text)
      local n_units = moment and math.ceil((last_ms - moment) / unit) or 0
      if n_units < 1 or n_units > 65535 then
        text = with_new_times(seen, bucket, expire_in(seen, bucket, text), last_ms)
        moment, unit = times_of(text)
        n_units = math.ceil((last_ms - moment) / unit)
      end
      stored, seen.until_ms = stored .. in_bytes(n_units, 2), math.max(seen.until_ms, last_ms + unit)
    end
    set_text(seen, bucket, text .. stored)
    seen.n_values = seen.n_values + 1
    if seen.n_values > VALUES_PER_BUCKET * seen.n_buckets then split_bucket(seen) end
  end

  -- Whether a value is new. From now on it is remembered, with a ttl until `last_ms`; if it is not new, only with
  -- `renews`.
  local function add_value(seen, hash, last_ms, renews)
    local bucket = bucket_of(seen, hash)
    local text, stored = text_of(seen, bucket), string.sub(hash, 1, stored_in(seen, bucket))
    local at, is_known = find_value(seen, text, stored)
    if not is_known and seen.is_unpacked then
      is_known = not seen.is_timed and redis.call('SISMEMBER', seen.unpacked, hash) == 1
        or seen.is_timed and number_of(redis.call('ZSCORE', seen.unpacked, hash)) > now_ms()
    end
    if not is_known or (renews and seen.is_timed) then remember(seen, bucket, at, text, stored, last_ms) end
    return not is_known
  end

  -- Pack some of what an earlier version has stored.
  local function pack_some(seen)
    local hashes, last_ms = {}, {}
    if seen.is_timed then
      local found = redis.call('ZRANGE', seen.unpacked, 0, PACKED_PER_CALL - 1, 'WITHSCORES')
      for f = 1, #found, 2 do
        hashes[#hashes + 1], last_ms[found[f]] = found[f], number_of(found[f + 1]) + seen.set_back_ms
      end
      if #hashes > 0 then redis.call('ZREM', seen.unpacked, unpack(hashes)) end
    else
      hashes = redis.call('SPOP', seen.unpacked, PACKED_PER_CALL)
    end
    packed_among(seen, hashes, 1, #hashes, 1)
    for _, hash in ipairs(hashes) do
      local place = seen.latest and redis.call('HGET', seen.latest, hash)
      if place then redis.call('HDEL', seen.latest, hash) end
      local is_old = seen.is_timed and last_ms[hash] <= now(seen)
      if #hash >= seen.n_bytes and not is_old and add_value(seen, hash, last_ms[hash]) and place then
        redis.call('HSETNX', seen.latest, string.sub(hash, 1, seen.n_bytes), place)
      end
    end
    seen.is_unpacked, seen.is_changed = #hashes == PACKED_PER_CALL, true
  end

  -- Look for what has expired in the next n buckets in turn.
  local function sweep(seen, n)
    for _ = 1, math.min(n, seen.n_buckets) do
      seen.swept = (seen.swept + 1) % seen.n_buckets
      local old = text_of(seen, seen.swept)
      local text = expire_in(seen, seen.swept, old)
      if text ~= old then set_text(seen, seen.swept, #text >= seen.first and text or '') end
    end
  end

  -- Store what has changed.
  local function write(seen)
    local flag = seen.is_unpacked and 1 or 0
    local about = string.format('%.0f %.0f %.0f %d', seen.n_bytes, seen.n_buckets, seen.n_values, flag)
    if seen.is_timed then
      about = about .. string.format(' %.0f %.0f %.0f', seen.set_back_ms, seen.until_ms, seen.swept)
    end
    local words, empty = {'about', about}, {}
    for bucket in pairs(seen.changed) do
      if seen.texts[bucket] ~= '' then
        words[#words + 1], words[#words + 2] = bucket, seen.texts[bucket]
      else
        empty[#empty + 1] = bucket
      end
    end
    for from = 1, #words, 2000 do
      redis.call('HSET', seen.key, unpack(words, from, math.min(from + 1999, #words)))
    end
    for from = 1, #empty, 2000 do
      redis.call('HDEL', seen.key, unpack(empty, from, math.min(from + 1999, #empty)))
    end
    seen.changed, seen.is_changed, seen.is_new = {}, false, false
  end

  -- Whether a worker of an earlier version is registered: then its form is used.
  local function is_form_plain(workers)
    for _, facts in ipairs(attempt('HVALS', workers)) do
      if not string.find(facts, CAN_READ_PACKED, 1, true) then return true end
    end
    return false
  end

  -- Remove everything, since all has expired: before the place of a new message is noted.
  local function remove_all(seen)
    for _, key in ipairs({seen.key, seen.latest}) do
      if type(try('UNLINK', key)) == 'table' then redis.call('DEL', key) end -- where UNLINK is not permitted
    end
    seen.has_expired = false
  end

  local function is_unseen_plain(seen, hash, ttl_ms)
    if not seen.is_timed then return redis.call('SADD', seen.key, hash) == 1 end
    if number_of(redis.call('ZSCORE', seen.key, hash)) > now_ms() then return false end
    redis.call('ZADD', seen.key, now_ms() + ttl_ms, hash)
    return true
  end

  -- Remove expired hashes: more than were added, so that the set shrinks, but never so many that others wait.
  local function expire_plain(seen, n_added)
    local expired = math.min(redis.call('ZCOUNT', seen.key, '-inf', now_ms()), 1000 + 2 * n_added)
    for from = 0, seen.latest and expired - 1 or -1, 1000 do
      redis.call('HDEL', seen.latest, unpack(redis.call('ZRANGE', seen.key, from, math.min(from + 1000, expired) - 1)))
    end
    if expired > 0 then redis.call('ZREMRANGEBYRANK', seen.key, 0, expired - 1) end
  end

  -- Add the values that `is_unseen` has found to be new: first enough buckets for all, so that each is placed once.
  local function add_found(seen)
    local sub = string.sub
    seen.n_values = seen.n_values + #seen.found
    while seen.n_values > VALUES_PER_BUCKET * seen.n_buckets do
      split_bucket(seen)
    end
    for _, hash in ipairs(seen.found) do
      local bucket = bucket_of(seen, hash)
      set_text(seen, bucket, text_of(seen, bucket) .. sub(hash, 1, stored_in(seen, bucket)))
    end
    seen.found = {}
  end

  -- Whether a message with this hash, which is not among the packed ones, is new. From now on it is not, for a while. One
  -- without a hash always is.
  local function is_unseen(seen, hash, ttl_ms)
    if hash == '' then return true end
    if seen.has_expired then remove_all(seen) end
    if seen.is_plain then return is_unseen_plain(seen, hash, ttl_ms) end
    if not seen.is_timed and not seen.is_unpacked then
      seen.found[#seen.found + 1], seen.known[hash] = hash, true
      return true
    end
    return add_value(seen, hash, seen.is_timed and now(seen) + ttl_ms)
  end

  -- From now on, a message that was seen is remembered for as long as a new one.
  local function see_again(seen, hash, ttl_ms)
    if seen.is_timed and seen.is_plain then redis.call('ZADD', seen.key, now_ms() + ttl_ms, hash) end
    if seen.is_timed and not seen.is_plain then add_value(seen, hash, now(seen) + ttl_ms, true) end
  end

  -- The fields under which the place of a message may be: of a packed hash that expires, only these bytes are known.
  local function place_of(seen, hash)
    if seen.is_plain then return hash end
    return string.sub(hash, 1, seen.n_bytes), seen.is_unpacked and hash
  end

  -- Store what was seen, and do the next part of what takes many calls. Last, because Redis accepts some of these writes
  -- when memory is full, and then every later write of the script.
  local function keep(seen, n_added)
    if seen.is_plain and seen.is_timed then expire_plain(seen, n_added) end
    if seen.is_plain then return end
    if seen.is_unpacked then pack_some(seen) end
    if seen.found[1] then add_found(seen) end
    if seen.is_timed and not seen.is_new then sweep(seen, 1 + n_added / 32) end
    if seen.is_changed then write(seen) end
  end

  -- The commands that may be called from the first write on, in this form. All others have been called before it.
  local function commands_of(seen)
    if seen.is_plain then
      if not seen.is_timed then return {'SADD'} end
      return {'ZADD', 'ZCOUNT', 'ZREMRANGEBYRANK', 'ZSCORE', seen.latest and 'ZRANGE' or nil}
    end
    local commands = {'HSET', 'HDEL', 'HMGET', seen.has_expired and 'DEL' or nil}
    if seen.is_unpacked then
      for _, name in ipairs(seen.is_timed and {'ZRANGE', 'ZREM'} or {'SPOP'}) do
        commands[#commands + 1] = name
      end
      if seen.latest then commands[#commands + 1] = 'HSETNX' end
    end
    return commands
  end

  -- Add what a bucket of another stage has, which has been split as often as `other` says.
  local function add_from(seen, other, bucket, text)
    local width = stored_in(other, bucket) + other.n_tail
    local moment, unit = times_of(text)
    for at = other.first, (moment or not other.is_timed) and #text - width + 1 or 0, width do
      local stored = string.sub(text, at, at + width - other.n_tail - 1)
      local last_ms = other.is_timed and moment + units_at(text, at + width - 2) * unit
      if last_ms then last_ms = last_ms - other.set_back_ms + seen.set_back_ms end
      local value = stored .. in_bytes(bucket, other.n_bytes - #stored)
      if #value >= seen.n_bytes and not (last_ms and last_ms <= now(seen)) then add_value(seen, value, last_ms, true) end
    end
  end

  -- What a stage has seen, and in which form. All checks are here, before the first write. `n_bytes`: of a hash, where
  -- none is stored yet.
  local function open(key, unpacked, workers, latest, seen_ms, n_bytes)
    local is_timed = seen_ms > 0
    local seen = {
      key = key, unpacked = unpacked, latest = latest, is_timed = is_timed,
      first = is_timed and 8 or 1, n_tail = is_timed and 2 or 0, texts = {}, changed = {}, found = {}, is_changed = false,
      n_bytes = n_bytes, n_buckets = 1, n_values = 0, set_back_ms = 0, until_ms = 0, swept = 0, is_unpacked = false,
      is_plain = false, is_new = false, is_missing = false, has_expired = false,
      packed_among = packed_among, is_unseen = is_unseen, see_again = see_again, place_of = place_of, keep = keep,
      add_from = add_from,
    }
    local about = attempt('HGET', key, 'about')
    if type(about) == 'string' then
      read_about(seen, about)
    else
      local plain, found = is_timed and 'zset' or 'set', redis.call('TYPE', key).ok
      if found == 'hash' then refuse(key) end
      if found ~= plain and found ~= 'none' then
        error('FLOWQ_WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a hash', 0)
      end
      seen.is_new, seen.is_missing = found == 'none', found == 'none'
      seen.is_plain = found == plain or seen.is_missing and is_form_plain(workers)
    end
    -- Raises if it is of another type, or if it may not be read.
    if seen.is_unpacked then redis.call(is_timed and 'ZSCORE' or 'SISMEMBER', unpacked, '') end
    measure(seen)
    seen.commands = commands_of(seen)
    return seen
  end

  return open
end

-- What the stage of the next keys has seen. All edges of a stage share it.
local seen_by_key, open_seen = {}, nil
local function next_seen(seen_ms, n_bytes, has_latest)
  local key, unpacked, workers, latest = unpack(KEYS, n_keys_read + 1, n_keys_read + (has_latest and 4 or 3))
  n_keys_read = n_keys_read + 3
  if has_latest then next_keys('hash') end
  open_seen = open_seen or load_seen()
  seen_by_key[key] = seen_by_key[key] or open_seen(key, unpacked, workers, latest, seen_ms, n_bytes)
  return seen_by_key[key], latest
end
