-- Put dead letters back to be run again.
--
-- Promise: each is either dead or waiting (or delayed), in one step; one that is no longer there is passed over, so that
-- the same call twice does nothing twice. One that was amended after the caller looked is passed over as well: it
-- shall run as it was amended; and so is a copy of a message that waits to be tried again. The removal comes first: Redis allows it when memory is full, and then the rest passes.
--
-- KEYS  1 stats  2 run  3 dead  4 amended  5 stream  6 delayed  7 parked  8 restored
-- ARGV  stage ('' when they go to another one: there they enter, and here they stay counted as dead), edge,
--       for each: id of the dead letter, its new header, the run it died in, milliseconds until it is due,
--       its new body ('' to keep that of the letter, else '=' and the body)
-- Answer: number put back

local wrong = misplaced({'hash', 'hash', 'stream', 'hash', 'stream', 'zset', 'hash'})
if wrong then return wrong end

local stats, dead, amended, stream, delayed, parked = KEYS[1], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local stage, edge = ARGV[1], ARGV[2]
local run = redis.call('HGET', KEYS[2], 'id') or ''
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local put_back = 0
for i = 3, #ARGV, 5 do
  local id, header, died_in, delay_ms = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local new_body = ARGV[i + 4] ~= '' and string.sub(ARGV[i + 4], 2)
  local letter = redis.call('XRANGE', dead, id, id)[1]
  local name = string.match(header, '^%S+')
  local may_go = letter and (new_body or redis.call('HEXISTS', amended, id) == 0) and not redis.call('ZSCORE', delayed, name)
  if may_go and redis.call('XDEL', dead, id) == 1 then
    redis.call('HDEL', amended, id)
    local entry, body, fields, was_restored = {'h', header}, new_body, whole(letter[2]), false
    for f = 1, #fields, 2 do
      local name, value = fields[f], fields[f + 1]
      if name == 'b' then
        body = new_body or value
      elseif name == 'r' then
        was_restored = true
        redis.call('HDEL', KEYS[8], value)
      elseif string.sub(name, 1, 2) == 'f:' then
        entry[#entry + 1], entry[#entry + 2] = string.sub(name, 3), value
      end
    end
    if body then entry[#entry + 1], entry[#entry + 2] = 'b', body end
    if (delay_ms > 0 and body) or not append(stream, entry) then
      redis.call('ZADD', delayed, now_ms + (delay_ms > 0 and delay_ms or AGAIN_MS), name)
      redis.call('HSET', parked, name, parked_form(header, body or '', entry))
    end
    -- A letter of this run moves back into the balance of its stage; any other enters it anew. One that was restored has
    -- left it before, when it was removed or put back.
    if stage ~= '' and died_in == run and not was_restored then
      increase(stats, 'dead:' .. stage, -1)
    else
      increase(stats, 'in:' .. edge, 1)
    end
    put_back = put_back + 1
  end
end
return put_back
