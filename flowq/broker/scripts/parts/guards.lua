-- Stands before each script: what keeps it from failing half-way over something that flowq did not write.

-- The command on the path of every message, whose failure is looked into by append().
local try = redis.pcall

-- Call a command that may fail, as for want of a group. Whoever may not call it at all must not take that for an answer.
local function attempt(...)
  local reply = try(...)
  local err = tostring(type(reply) == 'table' and reply.err)
  if string.find(err, 'user executing the script can', 1, true) or string.find(err, 'ACL failure', 1, true) then
    error(err, 0)
  end
  return reply
end

-- The error to answer with, before the first write, when this user may not call what follows it: what was acknowledged
-- and could not be handed on would be lost. Redis 6 cannot tell.
local function unpermitted()
  if not redis.acl_check_cmd then return end
  for _, name in ipairs({'XADD', 'XDEL', 'HSET', 'HINCRBY', 'ZADD'}) do
    if not redis.acl_check_cmd(name, KEYS[1], '0', '0', '0') then
      return redis.error_reply('NOPERM this user has no permissions to run ' .. name .. ' in a script')
    end
  end
end

-- The error to answer with, before the first write, when a key exists and is not of the type wanted; nil otherwise.
local function wrong_type(key, wanted)
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= wanted then
    return redis.error_reply('FLOWQ_WRONGTYPE ' .. key .. ' is a ' .. is .. ', not a ' .. wanted)
  end
end

-- The same for all keys from the first or a later one on: their types, in order, then those that repeat up to the end.
local function misplaced(wanted, repeated, first)
  first = first or 1
  for k = first, repeated and #KEYS or first + #wanted - 1 do
    local i = k - first
    local wrong = wrong_type(KEYS[k], wanted[i + 1] or repeated[(i - #wanted) % #repeated + 1])
    if wrong then return wrong end
  end
end

-- Add to a counter. One that is no number, or as large as a number can be, begins again.
local function increase(key, field, n)
  local value = attempt('HINCRBY', key, field, n)
  if type(value) == 'number' then return value end
  redis.call('HSET', key, field, n)
  return tonumber(n)
end

-- A number that was stored; 0 for anything else.
local function number_of(value)
  local number = tonumber(value or 0) or 0
  return math.abs(number) < 1e16 and number or 0 -- NaN is not below anything
end

