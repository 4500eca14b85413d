-- Removes settled entries from their stream.

local WORTH_A_TRIM = 16 -- entries: for fewer, finding out what may be trimmed costs more than it saves
local WORTH_A_LOOK = 12 -- entries: where there are fewer between two gaps, the same holds
local WORTH_SORTING = 8 -- moves of each id, on average

-- Sort the ids at these positions of ARGV, most of which are in order. Returns the positions where ids of one length end:
-- within such a stretch each is larger than the one before it. Nil if that would take long, or an id occurs twice.
local function ends_of_stretches(first, last)
  local ids = ARGV

  -- Whether an id is larger than another one, which has as many digits before its dash.
  local function is_larger(id, other_id)
    if #id == #other_id then return id > other_id end
    local ms, other_ms = string.match(id, '^%d*'), string.match(other_id, '^%d*')
    if ms == other_ms then return #id > #other_id end
    return ms > other_ms
  end

  local function find_ends()
    local ends = {}
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

  local ends, moves_left = find_ends(), WORTH_SORTING * (last - first)
  if ends then return ends end
  for i = first + 1, last do
    local id, j = ids[i], i
    while j > first and moves_left > 0 and is_larger(ids[j - 1], id) do
      ids[j], j, moves_left = ids[j - 1], j - 1, moves_left - 1
    end
    ids[j] = id
  end
  return moves_left > 0 and find_ends() or nil
end

-- The last position of ARGV, from `first` to `last`, up to which all entries of the stream are named there; `first - 1` if
-- that is not known.
local function end_of_named(stream, group, first, last)
  -- Whether the messages whose ids are around a position were added many at a time.
  local function is_dense(i)
    return string.match(ARGV[i], '^%d*') == string.match(ARGV[i + WORTH_A_LOOK], '^%d*')
  end

  -- Whether the ids at two positions, neighbours or in one stretch, have no gap between them: they are of one millisecond,
  -- and their sequence numbers are as far apart as their positions. The ids between them are in order and need not be looked at.
  local function is_gapless(i, j)
    local id, last_id = ARGV[i], ARGV[j]
    local ms = string.match(id, '^%d*%-')
    return #last_id - #ms <= 15 -- more digits than Lua can count with
      and string.sub(last_id, 1, #ms) == ms
      and string.sub(last_id, #ms + 1) - string.sub(id, #ms + 1) == j - i
  end

  -- The last position, in a stretch that ends at `stretch_end`, up to which the ids have no gap.
  local function end_of_run(i, stretch_end)
    if is_gapless(i, stretch_end) then return stretch_end end
    local step = 1
    while step >= 1 do
      if i + step <= stretch_end and is_gapless(i, i + step) then
        i, step = i + step, step * 2
      else
        step = math.floor(step / 2)
      end
    end
    return i
  end

  local at, n_looks = first - 1, 0
  local compares_bytes = '1-9' < '100' -- false in a locale that ignores the dash
  if
    not compares_bytes
    or not (is_dense(first) or is_dense(last - WORTH_A_LOOK))
    or pending_in(stream, group, '-', '(' .. ARGV[first], 1)[1]
  then
    return at
  end
  for _, stretch_end in ipairs(ends_of_stretches(first, last) or {}) do
    while at < stretch_end do
      if at < first or not is_gapless(at, at + 1) then
        n_looks = n_looks + 1
        if (n_looks - 2) * WORTH_A_LOOK > at - first then return at end
        if at >= first and string.find(ARGV[at], '-', 1, true) ~= string.find(ARGV[at + 1], '-', 1, true) then
          return at -- such ids are not in the order of their texts
        end
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
-- each other out. So every gap between the ids is looked into, up to the first that is not empty.
local function remove_entries(stream, group, first, last)
  local at = last - first >= WORTH_A_TRIM and end_of_named(stream, group, first, last) or first
  if at > first and type(try('XTRIM', stream, 'MINID', ARGV[at])) == 'number' then first = at end
  for from = first, last, 4000 do -- unpack() raises at 8000
    redis.call('XDEL', stream, unpack(ARGV, from, math.min(from + 3999, last)))
  end
end
