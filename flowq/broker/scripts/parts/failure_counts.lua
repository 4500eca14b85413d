-- Counts failed attempts that are tried again, by stage and kind of error, in the current run.
--
-- Fields: 'run', its id; 'kinds STAGE', how many kinds are counted; 'failure STAGE KIND', the number of failures, and of
-- the last one: the next attempt, when it is due in ms, and the error as the header has it.

local MOST_KINDS = 10 -- of a stage; all others count as one

-- What an earlier run has counted: a version that does not know these counters may have begun this one. Removed before
-- anything else is written, which Redis allows when memory is full.
local function forget_failures_of_other_runs(failures, run)
  local counted_in = redis.call('HGET', failures, 'run')
  if counted_in and counted_in ~= (redis.call('HGET', run, 'id') or '') then redis.call('DEL', failures) end
end

-- Note a failure among those of one call of a script, by kind.
local function note_failure(noted, kind, due_ms, header)
  local n = noted[kind] and noted[kind].n or 0
  noted[kind] = {n = n + 1, due_ms = due_ms, header = header}
end

local function add_failures(failures, stage, kind, n, last)
  local field = 'failure ' .. stage .. ' ' .. kind
  local before = redis.call('HGET', failures, field)
  if not before and kind ~= 'other' then
    if number_of(redis.call('HGET', failures, 'kinds ' .. stage)) >= MOST_KINDS then
      return add_failures(failures, stage, 'other', n, last)
    end
    increment(failures, 'kinds ' .. stage, 1)
  end
  n = n + number_of(string.match(before or '', '^%d+'))
  redis.call('HSET', failures, field, string.format('%.0f %s', n, last))
end

-- Count the noted failures of one kind.
local function count_failures(failures, run, stage, kind, noted)
  local attempt = string.match(noted.header, ' a=(%d+)') or '1'
  local error = string.match(noted.header, ' l=([^%s.]+)') or ''
  redis.call('HSET', failures, 'run', redis.call('HGET', run, 'id') or '')
  add_failures(failures, stage, kind, noted.n, string.format('%s %.0f %s', attempt, noted.due_ms, error))
end
