"""flowq's own scripts in virtual time: a preface answers TIME, gives entries their ids, and lets keys expire."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from flowq.broker import scripts

# The last argument is the time. A stream whose last id is ahead of the clock gets the next id, as from Redis itself.
_CLOCK = b"""
local virtual_us = tonumber(table.remove(ARGV))
local redis = setmetatable({}, {__index = redis})
local real_call, real_pcall, virtual_commands = redis.call, redis.pcall, {}
local function in_virtual_time(call)
  return function(name, ...)
    local command = virtual_commands[name]
    if command then return command(call, name, ...) end
    return call(name, ...)
  end
end
redis.call, redis.pcall = in_virtual_time(real_call), in_virtual_time(real_pcall)

function virtual_commands.TIME()
  local seconds = math.floor(virtual_us / 1000000)
  return {string.format('%.0f', seconds), string.format('%.0f', virtual_us - seconds * 1000000)}
end

function virtual_commands.XADD(call, ...)
  local words = {...}
  for w = 3, #words do
    if words[w] == '*' then
      words[w] = string.format('%.0f-*', math.floor(virtual_us / 1000))
      local reply = real_pcall(unpack(words))
      if type(reply) ~= 'table' or not reply.err then return reply end
      break
    end
  end
  return call(...)
end
"""
# A real server lets keys expire by its own clock, so the times at which they do by the virtual one are in a sorted set.
_EXPIRY = b"""
local expiry, virtual_ms = table.remove(ARGV), math.floor(virtual_us / 1000)
for _, key in ipairs(real_call('ZRANGEBYSCORE', expiry, '-inf', '(' .. string.format('%.0f', virtual_ms))) do
  real_call('DEL', key)
  real_call('ZREM', expiry, key)
end

local function expire_in(key, ms) real_call('ZADD', expiry, string.format('%.0f', virtual_ms + ms), key) end

function virtual_commands.PEXPIRE(call, name, key, ms)
  local exists = call('EXISTS', key)
  if exists == 1 then expire_in(key, ms) end
  return exists
end

function virtual_commands.PTTL(call, name, key)
  local exists = call('EXISTS', key)
  if exists ~= 1 then return exists == 0 and -2 or exists end
  local at_ms = real_call('ZSCORE', expiry, key)
  return at_ms and at_ms - virtual_ms or -1
end

function virtual_commands.SET(call, name, key, value, option, ms)
  if option and option ~= 'PX' then return call(name, key, value, option, ms) end
  local reply = call(name, key, value)
  if type(reply) ~= 'table' or reply.err then return reply end
  real_call('ZREM', expiry, key)
  if option then expire_in(key, ms) end
  return reply
end

function virtual_commands.DEL(call, name, ...)
  real_call('ZREM', expiry, ...)
  return call(name, ...)
end
"""
_ONE_COMMAND = b"if #ARGV > 0 then return redis.call(unpack(ARGV)) end"
_IN_VIRTUAL_TIME = frozenset((b"PEXPIRE", b"PTTL", b"SET", b"DEL", b"XADD"))


@dataclass(frozen=True, slots=True)
class VirtualScript:
    """A script with its preface, and the digest that it has then."""

    name: str
    text: bytes
    digest: bytes


def _with(preface: bytes, name: str, text: bytes) -> VirtualScript:
    whole = preface + text
    return VirtualScript(name, whole, hashlib.sha1(whole, usedforsecurity=False).hexdigest().encode())


@cache
def _names() -> Mapping[bytes, scripts.Script]:
    all_scripts = [script for script in vars(scripts).values() if isinstance(script, scripts.Script)]
    return {known: script for script in all_scripts for known in (script.digest, script.text)}


def script_of(command: Sequence[Any]) -> scripts.Script | None:
    """The script of flowq that a command runs, None for any other command."""
    return _names().get(command[1]) if command[0] in (b"EVALSHA", b"EVAL") else None


@cache
def with_clock(script: scripts.Script) -> VirtualScript:
    """A script in virtual time, for a server whose keys expire by the virtual clock: its last argument is the time."""
    return _with(_CLOCK, script.name, script.text)


@cache
def with_expiry(script: scripts.Script) -> VirtualScript:
    """The same for a real server: its last two arguments are the key of a sorted set of expiry times, and the time."""
    return _with(_CLOCK + _EXPIRY, script.name, script.text)


ONE_COMMAND = _with(_CLOCK + _EXPIRY, "one_command", _ONE_COMMAND)
"""Runs one command in virtual time, or none. Whatever has expired is removed before."""


def depends_on_time(command: Sequence[Any]) -> bool:
    """Whether a command has to run by ONE_COMMAND on a real server."""
    return command[0] in _IN_VIRTUAL_TIME


def microseconds(now: float) -> bytes:
    """The argument that tells a script the time."""
    return b"%d" % round(now * 1_000_000)


def time_reply(now: float) -> list[bytes]:
    """What TIME answers."""
    return [b"%d" % part for part in divmod(round(now * 1_000_000), 1_000_000)]
