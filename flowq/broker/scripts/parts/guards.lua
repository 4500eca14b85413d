-- Keeps scripts from failing halfway over data that flowq did not write.

-- Call a command that may fail. Used directly only on the path of every message, where a refusal is handled as well.
local try = redis.pcall

-- Call a command that may fail, for instance because the group is missing. A refused permission is raised all the same.
local function attempt(...)
  local reply = try(...)
  local err = tostring(type(reply) == 'table' and reply.err)
  if string.find(err, 'user executing the script can', 1, true) or string.find(err, 'ACL failure', 1, true) then
    error(err, 0)
  end
  return reply
end

-- Raise, before the first write, when this user may not run the commands that follow it: a message would be acknowledged
-- and lost. `targets`: edges that get messages. Redis 6 cannot tell.
local function check_permissions(targets)
  if not redis.acl_check_cmd then return end
  local names = {'XADD', 'XDEL', 'HSET', 'HINCRBY', 'ZADD'}
  for _, target in ipairs(targets or {}) do
    for _, name in ipairs(target.seen and target.seen:commands() or {}) do
      names[#names + 1] = name
    end
  end
  for _, name in ipairs(names) do
    if not redis.acl_check_cmd(name, KEYS[1], '0', '0', '0') then
      error('NOPERM this user has no permissions to run ' .. name .. ' in a script', 0)
    end
  end
end

-- Add to a counter. One that is not a number, or as large as a number can be, restarts.
local function increment(key, field, n)
  if n == 0 then return end
  local value = attempt('HINCRBY', key, field, n)
  if type(value) == 'number' then return value end
  redis.call('HSET', key, field, n)
  return tonumber(n)
end

-- A stored number; 0 for anything else.
local function number_of(value)
  local number = tonumber(value or 0) or 0
  return math.abs(number) < 1e16 and number or 0 -- NaN is not below anything
end

-- A write that Redis accepts when memory is full. After it, it accepts the other writes of the script as well.
local function allow_when_full(hash) redis.call('HDEL', hash, '') end
