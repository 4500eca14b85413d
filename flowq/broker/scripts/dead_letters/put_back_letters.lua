-- Put dead letters back on an edge, to run again.
--
-- Promise: each is either dead or waiting (or delayed), in one step. Skipped is a letter that no longer exists, so that
-- the same call twice does nothing twice; one that was edited after the caller read it, because it must run with its
-- new body; and a copy of a message that is delayed. The removal comes first: Redis allows it when memory is full, and
-- then the rest of the script passes.
--
-- `stage` is '' if the edge leads to another one: there the messages enter, and here they stay counted as dead.
-- `body_argument` is '' to keep the body of the letter, else '=' and the new body.
-- Answer: number put back

check_permissions(COMMANDS)
local stage, edge_name = next_arguments(2)
local stats, run, dead, edited = next_keys('hash', 'hash', 'stream', 'hash')
local edge = next_edge()
local restored = next_keys('hash')
local run_id = redis.call('HGET', run, 'id') or ''

-- The entry of a message: the fields of its letter, with a new header and perhaps a new body. Returns its body too, and
-- the id that the letter had before it was exported and restored.
local function entry_of(letter, header, new_body)
  local entry, body, restored_from = {'h', header}, new_body, nil
  local fields = whole(letter)
  for f = 1, #fields, 2 do
    local name, value = fields[f], fields[f + 1]
    if name == 'b' then
      body = new_body or value
    elseif name == 'r' then
      restored_from = value
    elseif string.sub(name, 1, 2) == 'f:' then
      entry[#entry + 1], entry[#entry + 2] = string.sub(name, 3), value
    end
  end
  if body then entry[#entry + 1], entry[#entry + 2] = 'b', body end
  return entry, body, restored_from
end

local put_back = 0
for _ = 3, #ARGV, 5 do
  local id, header, died_in, delay_ms, body_argument = next_arguments(5)
  delay_ms = tonumber(delay_ms)
  local new_body = body_argument ~= '' and string.sub(body_argument, 2) or nil
  local letter, name = entry_at(dead, id), string.match(header, '^%S+')
  local is_as_read = letter and (new_body or redis.call('HEXISTS', edited, id) == 0)
  if is_as_read and not redis.call('ZSCORE', edge.delayed, name) and redis.call('XDEL', dead, id) == 1 then
    redis.call('HDEL', edited, id)
    local entry, body, restored_from = entry_of(letter[2], header, new_body)
    if restored_from then redis.call('HDEL', restored, restored_from) end
    if delay_ms > 0 and body then
      delay(edge, now_ms() + delay_ms, name, delayed_form(header, body, entry))
    elseif not append(edge.stream, entry) then
      delay_again(edge, name, delayed_form(header, body or '', entry))
    end
    -- A letter of this run moves back into the balance of its stage; any other one enters it as new. One that was
    -- restored left the balance before, when it was removed or put back.
    if stage ~= '' and died_in == run_id and not restored_from then
      increment(stats, 'dead:' .. stage, -1)
    else
      increment(stats, 'in:' .. edge_name, 1)
    end
    put_back = put_back + 1
  end
end
return put_back
