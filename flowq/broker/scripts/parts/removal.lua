-- Removes settled entries from their stream.

local WORTH_A_TRIM = 16 -- entries: for fewer, finding out what may be trimmed costs more than it saves
local WORTH_A_LOOK = 12 -- entries: where there are fewer between two gaps, the same holds
local WORTH_SORTING = 8 -- moves of each id, on average
local COMPARES_BYTES = '1-9' < '100' -- not in a locale that skips the dash

-- Whether an id of a stream is larger than another one, which has as many digits before its dash.
local function is_larger(id, other_id)
  if #id == #other_id then return id > other_id end
  local ms, other_ms = string.match(id, '^%d*'), string.match(other_id, '^%d*')
  if ms == other_ms then return #id > #other_id end
  return ms > other_ms
end

-- Sort the ids at these positions of ARGV, most of which are in order. Returns false if that would take long.
local function sort(first, last)
  local ids, moves_left = ARGV, WORTH_SORTING * (last - first)
  for i = first + 1, last do
    local id, j = ids[i], i
    while j > first and moves_left > 0 and is_larger(ids[j - 1], id) do
      ids[j], j, moves_left = ids[j - 1], j - 1, moves_left - 1
    end
    ids[j] = id
  end
  return moves_left > 0
end

-- The positions of ARGV where ids of one length end: within such a stretch each is larger than the one before it. Nil if
-- they are not sorted, or one is there twice.
local function ends_of_stretches(first, last)
  local ids, ends = ARGV, {}
  for i = first + 1, last do
    local id, next_id = ids[i - 1], ids[i]
    if #next_id ~= #id or next_id <= id then
      if not is_larger(next_id, id) then return nil end
      ends[#ends + 1] = i - 1
    end
  end
  ends[#ends + 1] = last
  return ends
end

-- Whether the ids at two positions of ARGV, neighbours or in one stretch, leave no id out: they are of one millisecond,
-- and their sequence numbers differ as their positions do. All between them lie between, so they need not be read.
local function is_gapless(i, j)
  local id, last_id = ARGV[i], ARGV[j]
  local ms = string.match(id, '^%d*%-')
  return #last_id - #ms <= 15 -- more digits than Lua can count with
    and string.sub(last_id, 1, #ms) == ms
    and string.sub(last_id, #ms + 1) - string.sub(id, #ms + 1) == j - i
end

-- The last of the positions, in a stretch that ends at `last`, up to which the ids leave none out.
local function end_of_run(i, last)
  if is_gapless(i, last) then return last end
  local step = 1
  while step >= 1 do
    if i + step <= last and is_gapless(i, i + step) then
      i, step = i + step, step * 2
    else
      step = math.floor(step / 2)
    end
  end
  return i
end

-- Whether the messages whose ids are around this position of ARGV were added many at a time.
local function is_dense(i)
  return string.match(ARGV[i], '^%d*') == string.match(ARGV[i + WORTH_A_LOOK], '^%d*')
end

-- The last position in ARGV up to which all entries of the stream are named there, `first - 1` if it is unknown.
local function end_of_named(stream, group, first, last)
  local at, n_looks = first - 1, 0
  if
    last - first < WORTH_A_TRIM
    or not COMPARES_BYTES
    or not (is_dense(first) or is_dense(last - WORTH_A_LOOK))
    or pending_in(stream, group, '-', '(' .. ARGV[first], 1)[1]
  then
    return at
  end
  local ends = ends_of_stretches(first, last) or (sort(first, last) and ends_of_stretches(first, last)) or {}
  for _, stretch_end in ipairs(ends) do
    while at < stretch_end do
      if at < first or not is_gapless(at, at + 1) then
        n_looks = n_looks + 1
        if (n_looks - 2) * WORTH_A_LOOK > at - first then return at end
        local others = try('XRANGE', stream, at < first and '-' or '(' .. ARGV[at], '(' .. ARGV[at + 1], 'COUNT', 1)
        if others.err or others[1] then return at end
      end
      at = end_of_run(at + 1, stretch_end)
    end
  end
  return at
end

-- Remove the entries whose ids are at these positions of ARGV, and no others.
--
-- XDEL searches for each entry; XTRIM drops all below an id at once. It must not drop an entry that is not named here:
-- one that is pending or was never delivered, nor one that was acknowledged or skipped by hand (XACK, XGROUP SETID),
-- which stays and counts as left. The numbers that Redis knows cannot rule that out, since two such changes may cancel
-- each other. So every gap between the ids is looked into, up to the first that is not empty.
local function remove(stream, group, first, last)
  local at = end_of_named(stream, group, first, last)
  if at > first and type(try('XTRIM', stream, 'MINID', ARGV[at])) == 'number' then first = at end
  for from = first, last, 4000 do -- unpack() raises at 8000
    redis.call('XDEL', stream, unpack(ARGV, from, math.min(from + 3999, last)))
  end
end
