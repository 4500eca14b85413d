-- Wrapped around each script whose second run would do something else than its first.
--
-- Promise: a call that is sent again, because its reply was lost, changes nothing and gets the answer that was lost.
-- The last key keeps the token of the last call and its answer; the last argument is the token of this call. A script
-- that returns `false` as its second value has changed nothing that a second run would not find as it was: nothing is
-- kept then.

local answered, token = table.remove(KEYS), table.remove(ARGV)
local kept = kept_answer(answered, token)
if kept ~= nil then return kept end

local function run()
--[[ the script ]]
end

local answer, is_news = run()
if is_news ~= false and not (type(answer) == 'table' and answer.err) then keep_answer(answered, token, answer) end
return answer
