-- Forget values that live in another shard, which has them.
--
-- Promise: a bucket that has changed since it was read stays as it is.
--
-- ARGV  for each bucket: its number, its text as read, what remains of it, how many values less these are
-- Answer 1

check_permissions(COMMANDS)
local key = next_keys('hash')
for i = 1, #ARGV, 4 do
  local bucket, before, after, n_values = unpack(ARGV, i, i + 3)
  if redis.call('HGET', key, bucket) == before then
    local n_bytes, n_buckets, known, rest = string.match(redis.call('HGET', key, 'about'), '^(%d+) (%d+) (%d+)(.*)$')
    local about = string.format('%s %s %.0f%s', n_bytes, n_buckets, math.max(0, known - n_values), rest)
    redis.call('HDEL', key, bucket)
    if after ~= '' then redis.call('HSET', key, bucket, after) end
    redis.call('HSET', key, 'about', about)
  end
end
return 1
