-- Keeps the messages that a stage has settled.

-- Copy the entries whose ids are at these positions of ARGV to the kept messages, and trim these.
local function keep_copies(kept, stream, first, last, keep_ms, keep_count)
  for i = first, last do
    local entry = entry_at(stream, ARGV[i])
    if entry then append(kept, entry[2]) end
  end
  if keep_ms > 0 then redis.call('XTRIM', kept, 'MINID', '~', string.format('%.0f', now_ms() - keep_ms)) end
  redis.call('XTRIM', kept, 'MAXLEN', '~', keep_count)
end
