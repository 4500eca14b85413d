-- Pack some of what an earlier version has stored of the values that a stage has seen.
--
-- KEYS  what it has seen, unpacked, workers; latest if it handles the last message of a value
-- ARGV  1 with a ttl, else 0; 1 if there is latest, else 0; how much
-- Answer 1 if there is more, 0 if all is packed, -1 if it is stored in the form of an earlier version

check_permissions(COMMANDS)
local is_timed, has_latest, n = next_numbers(3)
local seen = next_seen(is_timed == 1 and 1 or -1, 10, has_latest == 1)
if seen.is_missing then return 0 end
if seen.is_plain then return -1 end
for _ = 1, n do
  if not seen.is_unpacked then return 0 end
  seen:keep(0)
end
return seen.is_unpacked and 1 or 0
