"""flowq's own scripts in virtual time: a preface answers TIME, and gives entries their ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowq.broker import scripts

# The last argument is the time. A stream whose last id is ahead of the clock gets the next id, as from Redis itself.
_PREFACE = b"""
local virtual_us = tonumber(table.remove(ARGV))
local redis = setmetatable({}, {__index = redis})
do
  local real_call, real_pcall, unpack = redis.call, redis.pcall, unpack
  local function with_id(call, arguments)
    for a = 3, #arguments do
      if arguments[a] == '*' then
        local virtual = {unpack(arguments)}
        virtual[a] = string.format('%.0f-*', math.floor(virtual_us / 1000))
        local reply = real_pcall(unpack(virtual))
        if type(reply) ~= 'table' or not reply.err then return reply end
        if not string.find(reply.err, 'equal or smaller', 1, true) then break end
        return call(unpack(arguments))
      end
    end
    return call(unpack(arguments))
  end
  local function virtual(call)
    return function(name, ...)
      if name == 'TIME' then
        local seconds = math.floor(virtual_us / 1000000)
        return {string.format('%.0f', seconds), string.format('%.0f', virtual_us - seconds * 1000000)}
      end
      if name == 'XADD' then return with_id(call, {name, ...}) end
      return call(name, ...)
    end
  end
  redis.call, redis.pcall = virtual(real_call), virtual(real_pcall)
end
"""


@dataclass(frozen=True, slots=True)
class VirtualScript:
    """A script of flowq with its preface, and the digest that it has then. It takes the time as its last argument."""

    name: str
    text: bytes
    digest: bytes


def _known() -> Mapping[bytes, VirtualScript]:
    found: dict[bytes, VirtualScript] = {}
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            text = _PREFACE + script.text
            digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
            found[script.digest] = found[script.text] = VirtualScript(script.name, text, digest)
    return found


_BY_DIGEST_OR_TEXT = _known()


def script_of(command: Any) -> VirtualScript | None:
    """The script of flowq that a command runs, None for any other command."""
    if command[0] not in (b"EVALSHA", b"EVAL"):
        return None
    return _BY_DIGEST_OR_TEXT.get(command[1])


def microseconds(now: float) -> bytes:
    """The argument that tells a script the time."""
    return b"%d" % round(now * 1_000_000)
