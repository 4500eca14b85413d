-- Begin to pack what stages have seen, where an earlier version has stored whole hashes. Each later call packs some of it.
--
-- Promise: nothing is forgotten, and nothing changes while a worker is registered that cannot read it packed. One that
-- registers later, and a program of such a version that pushes, is refused by the type of the key.
--
-- KEYS  workers; for each stage: what it has seen, where that is kept until it is packed; the same two with a ttl
-- ARGV  how many bytes of a hash are stored
-- Answer: 1, or 0 if that is not possible now

check_permissions(COMMANDS)
for _, facts in ipairs(redis.call('HVALS', next_keys('hash'))) do
  if not string.find(facts, CAN_READ_PACKED, 1, true) then return 0 end
end
for _, reply in ipairs({try('SISMEMBER', KEYS[3] or KEYS[1], ''), try('SPOP', KEYS[3] or KEYS[1], 0)}) do
  if type(reply) == 'table' and reply.err then return 0 end -- this user has the permissions that an earlier version needs
end
for k = 2, #KEYS, 4 do
  for timed = 0, 1 do
    local key, unpacked = KEYS[k + 2 * timed], KEYS[k + 2 * timed + 1]
    if redis.call('TYPE', key).ok == (timed == 1 and 'zset' or 'set') then
      redis.call('RENAME', key, unpacked) -- one that is there already belongs to an earlier run
      redis.call('HSET', key, 'about', ARGV[1] .. ' 1 0 1' .. (timed == 1 and ' 0 0 0' or ''))
    end
  end
end
return 1
