"""TLS to Redis: the files it needs, and what is wrong with a certificate, in words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowq.errors import UsageError

_FILE_SUFFIXES = (".pem", ".crt", ".cer", ".key", ".ca-bundle")

# X509_V_ERR_* of OpenSSL, as SSLCertVerificationError.verify_code has them.
_SELF_SIGNED = (18,)
_UNKNOWN_AUTHORITY = (2, 19, 20, 21, 27)
_NOT_YET_VALID, _EXPIRED, _REVOKED = 9, 10, 23
_OTHER_NAME = (62, 64)


def check_tls_files(options: Mapping[str, Any], prefix: str = "") -> None:
    """Raise UsageError for a file of a URL that cannot be used. `prefix` is that of the options' names in the URL."""
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in options:
            _check_readable(prefix + name, options[name])
    if "ssl_ca_path" in options and not Path(options["ssl_ca_path"]).is_dir():
        raise _unusable(prefix + "ssl_ca_path", options["ssl_ca_path"], "is not a folder")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, kind in (("ssl_ca_certs", "cafile"), ("ssl_ca_data", "cadata")):
        try:
            if name in options:
                context.load_verify_locations(**{kind: options[name]})
        except (ssl.SSLError, ValueError, TypeError):
            raise _unusable(prefix + name, options[name], "holds no certificate in PEM format") from None
    _check_own_certificate(context, options, prefix)


def _check_own_certificate(context: ssl.SSLContext, options: Mapping[str, Any], prefix: str) -> None:
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if key and not certificate:
        raise UsageError(
            f"the Redis URL has {prefix}ssl_keyfile without a certificate", hint=f"add {prefix}ssl_certfile=FILE"
        )
    if not certificate:
        return
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password=options.get("ssl_password", ""))
    except (ssl.SSLError, ValueError):
        raise _unusable(
            prefix + "ssl_certfile",
            certificate,
            f"and {prefix}ssl_keyfile are no certificate and its key, or {prefix}ssl_password does not open them",
        ) from None


def _check_readable(name: str, file: str) -> None:
    try:
        with Path(file).open("rb"):
            pass
    except FileNotFoundError:
        raise _unusable(name, file, "does not exist") from None
    except (OSError, ValueError):
        raise _unusable(name, file, "cannot be read") from None


def _unusable(name: str, file: str, what: str) -> UsageError:
    # A value that does not look like a file may be a secret that has gone astray.
    is_file = not name.endswith("data") and ("/" in file or file.endswith(_FILE_SUFFIXES))
    named = f"{name}={file}" if is_file else name
    hint = f"{name}=/path/to/file.pem, absolute or from the root of the project"
    return UsageError(f"{named} of the Redis URL {what}", hint=hint)


def tls_trouble(error: BaseException, address: str) -> tuple[str, str] | None:
    """What TLS says is wrong, and the remedy; None where it is something else."""
    for cause in chain_of(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            what, hint = _verification(cause)
            return f"the certificate of Redis at {address} is refused: {what}", hint
        if isinstance(cause, ssl.SSLError) and (found := _handshake(cause, address)):
            return found
    return None


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from: redis-py raises its own in place of those of the socket."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _verification(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    trust = "name the certificate of the authority that has signed it: ?ssl_ca_certs=FILE"
    match error.verify_code:
        case code if code in _SELF_SIGNED:
            return "it is self-signed", "name that certificate itself: ?ssl_ca_certs=FILE"
        case code if code in _UNKNOWN_AUTHORITY:
            return "it is not signed by a trusted authority", trust
        case code if code == _EXPIRED:
            return "it has expired", "renew the certificate of the server, and check the clock of this machine"
        case code if code == _NOT_YET_VALID:
            return "it is not valid yet", "check the clock of this machine"
        case code if code == _REVOKED:
            return "it has been revoked", "give the server another certificate"
        case code if code in _OTHER_NAME:
            name = error.verify_message.rstrip(".")
            return f"it is for another host ({name})", (
                "use a host name that it has, or ?ssl_check_hostname=false to accept it for any"
            )
        case _:
            return error.verify_message or str(error), trust


def _handshake(error: ssl.SSLError, address: str) -> tuple[str, str] | None:
    reason = (error.reason or "").replace("_", " ").lower()
    if "wrong version number" in reason or "record layer failure" in reason or "packet length too long" in reason:
        return f"what answers at {address} does not speak TLS", "is this the right port? without TLS, use redis://"
    if "alert" not in reason:
        return None
    said = reason.partition("alert ")[2] or reason
    return (
        f"Redis at {address} has ended the TLS handshake: {said}",
        "it may want a certificate of this client: ?ssl_certfile=FILE&ssl_keyfile=FILE",
    )
