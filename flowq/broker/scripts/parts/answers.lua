-- Keeps the answer of a call, so that the same call sent again, with the same token, gets it again.

local ANSWER_KEPT_MS = 600000

-- The words kept under a token, nil if the last token was another one.
local function words_kept(key, token)
  local kept = redis.call('GET', key)
  if not kept or string.sub(kept, 1, #token + 1) ~= token .. ' ' then return nil end
  local words = {}
  for word in string.gmatch(string.sub(kept, #token + 2), '%S+') do words[#words + 1] = word end
  return words
end

-- Keep words, or numbers, under a token.
local function keep_words(key, token, words)
  redis.call('SET', key, token .. ' ' .. table.concat(words, ' '), 'PX', ANSWER_KEPT_MS)
end
