"""What a call to Redis has raised, in flowq's words."""

from __future__ import annotations

import socket

import redis.exceptions as redis_errors

from flowq.broker.client.tls import chain_of, tls_trouble
from flowq.errors import BrokerLoading, BrokerRefused, BrokerUnavailable, FlowqError, ReplyCutOff, RequestCutOff

PROTOCOL_ERROR = "Protocol error"
SMALLEST_LIMIT_BYTES = 1_000_000
"""What no Redis refuses for its size: `proto-max-bulk-len` and `client-query-buffer-limit` are a mebibyte at least."""
_WANTS_CERTIFICATE = "wants a certificate of this client: ?ssl_certfile=FILE&ssl_keyfile=FILE"


def cut_off(error: Exception, problem: Exception, address: str, *, n_bytes: int) -> Exception:
    """What to call the loss of a connection on which a call was under way, if nothing else explains it."""
    return translate(_cut_off(error, problem, address, n_bytes), address)


def _cut_off(error: Exception, problem: Exception, address: str, n_bytes: int) -> Exception:
    is_closed = isinstance(error, OSError)  # not a reply
    is_explained = isinstance(error, TimeoutError) or tls_trouble(error, address)
    if (not is_closed or is_explained) and not str(error).startswith(PROTOCOL_ERROR):
        return problem
    if n_bytes <= SMALLEST_LIMIT_BYTES:
        hint = "check that it is still running; if this happens each time, raise its client-output-buffer-limit"
        if address.startswith("rediss"):  # since TLS 1.3 a server that misses a certificate closes at the first call
            hint += f", or it {_WANTS_CERTIFICATE}"
        return ReplyCutOff(f"Redis at {address} has closed the connection during a call", hint=hint, detail=str(error))
    return RequestCutOff(
        f"Redis at {address} has closed the connection on a request of {n_bytes:,} bytes",
        hint="if this happens each time, raise its proto-max-bulk-len and client-query-buffer-limit",
        detail=str(error),
    )


_LOGIN_REFUSED = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)
# What a script says whose user may not call one of its commands or touch one of its keys: Redis 6 and 7.0, and later.
_DENIED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script", "NOPERM")
_ANSWERS_THAT_CALLERS_EXPECT = ("NOGROUP", "UNBLOCKED", "BUSYGROUP")


def is_denied(reply: object) -> bool:
    """Whether Redis refused a command, or one within a script, because this user may not call it."""
    if isinstance(reply, redis_errors.NoPermissionError):
        return True
    return isinstance(reply, redis_errors.ResponseError) and any(words in str(reply) for words in _DENIED_IN_SCRIPT)


def translate(error: Exception, address: str) -> Exception:
    """Whatever a call has raised, in flowq's words; replies that callers handle by their text pass."""
    problem = error if isinstance(error, FlowqError) else _translated(error, address)
    if isinstance(problem, BrokerUnavailable) and not problem.server:
        problem.server = server_in(address)
    return problem


def server_in(address: str) -> str:
    """The server of an address, without the shard that was looked for: it may hold others as well.

    >>> server_in("127.0.0.1:7001, the primary of slot 5 (shard 3)"), server_in("redis://127.0.0.1:7001/0")
    ('127.0.0.1:7001', 'redis://127.0.0.1:7001/0')
    """
    return address.partition(" (shard ")[0].partition(", the primary of ")[0]


def _translated(error: Exception, address: str) -> Exception:
    text = str(error) or type(error).__name__
    if is_denied(error):
        return BrokerRefused(
            f"Redis at {address} does not give this user the permissions that flowq needs",
            hint="flowq doctor lists the commands and keys, as an ACL",
            detail=text,
        )
    if isinstance(error, _LOGIN_REFUSED):
        return BrokerRefused(
            f"Redis at {address} refused the login", hint="check user and password of the Redis URL", detail=text
        )
    if isinstance(error, redis_errors.ResponseError):
        return _translate_answer(error, text, address)
    if isinstance(error, redis_errors.BusyLoadingError):
        return BrokerLoading(
            f"Redis at {address} is still reading its data", hint="wait until it has, and try again", detail=text
        )
    return _lost(error, text, address)


def _lost(error: Exception, text: str, address: str) -> BrokerUnavailable:
    """The connection could not be made or has broken, for whatever reason."""
    if found := tls_trouble(error, address):
        what, hint = found
        return BrokerUnavailable(what, hint=hint, detail=text)
    if isinstance(error, redis_errors.InvalidResponse):
        return BrokerUnavailable(
            f"what answers at {address} is not Redis", hint="check host and port of the Redis URL", detail=text
        )
    if isinstance(error, TimeoutError):
        text = "no answer in time"
    return BrokerUnavailable(f"cannot reach Redis at {address}", hint=_how_to_reach(error, address), detail=text)


_BROKEN = (ConnectionResetError, BrokenPipeError, EOFError, TimeoutError)


def _how_to_reach(error: Exception, address: str) -> str:
    causes = tuple(chain_of(error))
    if any("max number of clients" in str(cause) for cause in causes):
        return "raise maxclients of Redis, or connect fewer programs; redis-cli CLIENT LIST names them"
    if any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes):
        return "check the host name of the Redis URL"
    if any(isinstance(cause, _BROKEN) for cause in causes):
        if address.startswith("rediss"):
            return f"see whether this port speaks TLS, and {_WANTS_CERTIFICATE}"
        return "see whether it runs; a port that speaks TLS needs rediss://"
    return 'start one: redis-server --appendonly yes, or use "embedded" as the URL: flowq then starts its own'


def _translate_answer(error: redis_errors.ResponseError, text: str, address: str) -> Exception:
    if isinstance(error, redis_errors.NoScriptError) or text.startswith(_ANSWERS_THAT_CALLERS_EXPECT):
        return error
    if "WRONGTYPE" in text:  # a script of an older Redis prefixes it
        return BrokerRefused(
            "a key of this pipeline is of the wrong type",
            hint="remove that key, or use another namespace",
            detail=text,
        )
    if text.startswith(("DB index", "unknown command")):
        return BrokerRefused(
            f"Redis at {address} cannot serve flowq",
            hint="check the database number of the URL; flowq needs Redis 6.2 or newer",
            detail=text,
        )
    if isinstance(error, redis_errors.AskError):  # and MOVED; the text is a slot and an address
        return BrokerUnavailable(
            f"the slot of a key is no longer at {address}",
            hint="name the nodes of a Cluster as redis+cluster://HOST:PORT,HOST:PORT: flowq finds the one that has it",
            detail=f"the slot has moved: {text}",
        )
    # Out of memory, not enough replicas, a disk that is full, a script that runs for too long: all of them pass, and
    # redis-py has no class for most.
    return BrokerUnavailable(
        f"Redis at {address} cannot process commands at the moment",
        hint="see its message above: it may lack memory, disk space or replicas",
        detail=text,
    )
