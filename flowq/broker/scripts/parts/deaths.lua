-- Notes that a worker has died, for people. Nothing depends on them: one that cannot be written is left out.

local MOST_DEATHS = 50
local LEASE_ENDED = 'lost: its lease has ended'
local DEATH_KEPT_MS = 86400000 -- a day

-- Note the death of a worker with the facts it had registered; nothing if it was not registered any more.
local function note_death(deaths, worker, facts, how)
  if not facts then return end
  attempt('XADD', deaths, 'MAXLEN', MOST_DEATHS, '*', 'worker', worker, 'how', how, 'facts', facts)
  attempt('PEXPIRE', deaths, DEATH_KEPT_MS)
end
