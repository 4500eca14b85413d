-- Add a record to the audit: what a user did to a pipeline. Only the latest records are kept.
--
-- Promise: it is added even when memory is full, as actions are done even then.
--
-- ARGV  how many to keep, then names and values of a record

check_permissions(COMMANDS)
local audit = next_keys('stream')
local most = next_numbers(1)
redis.call('XTRIM', audit, 'MAXLEN', '~', most) -- Redis accepts it when memory is full, and then what follows
append(audit, {select(2, unpack(ARGV))})
return 1
