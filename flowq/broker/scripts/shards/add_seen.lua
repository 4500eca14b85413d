-- Remember values that another shard has seen.
--
-- Promise: each is remembered until the moment that it had there; one that is remembered already, once.
--
-- KEYS  what the stage has seen, unpacked, workers
-- ARGV  1 with a ttl, else 0; by how many bytes the other shard remembers a value; by how many ms its clock was set back;
--       for each text: values that were in one bucket, each with all of its bytes
-- Answer 1; 0 if this shard stores values in the form of an earlier version

check_permissions(COMMANDS)
local is_timed, n_bytes, set_back_ms = next_numbers(3)
local seen = next_seen(is_timed == 1 and 1 or -1, n_bytes)
if seen.is_missing then seen.is_plain = false end -- nothing is stored yet
if seen.is_plain then return 0 end
if seen.has_expired then redis.call('DEL', seen.key) end
local other = {
  is_timed = is_timed == 1, first = is_timed == 1 and 8 or 1, n_tail = is_timed == 1 and 2 or 0, n_bytes = n_bytes,
  set_back_ms = set_back_ms, n_split = 0, half = 1, n_stored = n_bytes, n_stored_split = n_bytes,
}
for i = 4, #ARGV do seen:add_from(other, 0, ARGV[i]) end
seen:keep(0)
return 1
