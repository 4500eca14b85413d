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

-- The error to answer with, before the first write, when one of the first keys holds something else than it should.
local function misplaced(kinds)
  for i, wanted in ipairs(kinds) do
    local is = redis.call('TYPE', KEYS[i]).ok
    if is ~= 'none' and is ~= wanted then
      return redis.error_reply('FLOWQ_WRONGTYPE ' .. KEYS[i] .. ' is a ' .. is .. ', not a ' .. wanted)
    end
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

