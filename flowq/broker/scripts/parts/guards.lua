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

-- The first of these commands that this user may not call, nil if all are permitted. EVALSHA asks for every right to every
-- key, so that one of them stands for all. Before Redis 7 a script cannot tell.
local function forbidden_among(commands)
  local is_permitted, key = redis.acl_check_cmd, KEYS[1]
  for c = 1, is_permitted and #commands or 0 do
    local name, subcommand = commands[c], key
    if string.find(name, ' ', 1, true) then name, subcommand = string.match(name, '^(%S+) (%S+)$') end
    if not is_permitted(name, subcommand, key, key, key) then return commands[c] end
  end
end

-- Raise if this user may not call all of these commands. Every script does this before its first write, with all that it
-- may call from there on: Lua does not roll back, and a message would be acknowledged and lost. Those that do not run for
-- every message check COMMANDS, whatever they may call.
local function check_permissions(commands)
  local name = forbidden_among(commands)
  if name then error('NOPERM this user has no permissions to run ' .. name .. ' in a script', 0) end
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
