"""The URL of a Redis: what is accepted, what is refused with which remedy, and that no secret is ever shown."""

from __future__ import annotations

import logging
import string
import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowq.broker.client.redis_url import parse_redis_url, redact, redact_text, with_files_of
from flowq.broker.open import dialer_for
from flowq.cli.framework.error_screen import problems_of
from flowq.cli.framework.logs import JsonFormatter, TextFormatter
from flowq.errors import UsageError

UNDERSTOOD = [
    ("redis://db.example.org", "redis://db.example.org:6379/0"),
    ("redis://db.example.org:7000/3", "redis://db.example.org:7000/3"),
    ("redis://db.example.org/?db=3", "redis://db.example.org:6379/3"),
    ("REDIS://db.example.org/0/", "redis://db.example.org:6379/0"),
    ("  redis://db.example.org\n", "redis://db.example.org:6379/0"),
    ("redis://app:sesame@db.example.org", "redis://***@db.example.org:6379/0"),
    ("redis://:ses@me@db.example.org", "redis://***@db.example.org:6379/0"),
    ("redis://app@db.example.org", "redis://***@db.example.org:6379/0"),
    ("redis://db_1.my-net.local./0", "redis://db_1.my-net.local.:6379/0"),
    ("redis://[::1]:7000", "redis://[::1]:7000/0"),
    ("redis://:sesame@/1", "redis://***@localhost:6379/1"),
    ("redis://db?password=sesame&username=app", "redis://***@db:6379/0?password=***&username=***"),
    ("redis://db?client_name=sesame&socket_keepalive=no", "redis://db:6379/0?client_name=***&socket_keepalive=false"),
    ("redis://db?socket_timeout=5&max_connections=9", "redis://db:6379/0?socket_timeout=***&max_connections=***"),
    ("rediss://db?ssl_cert_reqs=CERT_NONE", "rediss://db:6379/0?ssl_cert_reqs=none"),
    ("rediss://db?ssl_cert_reqs=required", "rediss://db:6379/0?ssl_cert_reqs=required"),
    ("rediss://db?ssl_min_version=TLSv1.2", "rediss://db:6379/0?ssl_min_version=TLSv1_2"),
    ("rediss://db?ssl_min_version=772", "rediss://db:6379/0?ssl_min_version=TLSv1_3"),
    ("rediss://db?ssl_ca_certs=/etc/ca.pem", "rediss://db:6379/0?ssl_ca_certs=***"),
    ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("unix://app:sesame@/run/redis.sock?db=2", "unix://***@/run/redis.sock?db=2"),
    ("redis+sentinel://one,two:5000/main", "redis+sentinel://one:26379,two:5000/main/0"),
    (
        "rediss+sentinel://app:x@one/main/2?sentinel_password=sesame&sentinel_tls=no",
        "rediss+sentinel://***@one:26379/main/2?sentinel_password=***&sentinel_tls=false",
    ),
    ("redis+sentinel://one/main,other", "redis+sentinel://one:26379/main,other/0"),
    ("redis+servers://app:x@one,[::1]:7000/2", "redis+servers://***@one:6379,[::1]:7000/2"),
    ("redis+cluster://one,[::1]:7000", "redis+cluster://one:6379,[::1]:7000"),
]

# URL, what the error says, what its hint says
REFUSED = [
    ("", "cannot be read", "redis://host:6379/0"),
    ("localhost:6379", "cannot be read", "redis://host:6379/0"),
    ("http://localhost", "cannot be read", "redis://host:6379/0"),
    ("redis:/localhost", "cannot be read", "redis://host:6379/0"),
    ("redis://local\x07host", "cannot be read", "redis://host:6379/0"),
    ("redis://:ses/ame@db", "cannot be read", "/ as %2F"),
    ("redis://:ses#ame@db", "cannot be read", "# as %23"),
    ("redis://:ses?ame@db", "cannot be read", "? as %3F"),
    ("redis://:ses ame@db", "cannot be read", "a space as %20"),
    ("redis://:ses[ame@db", "cannot be read", "[ as %5B"),
    ("redis://:6379/sesame@db", "cannot be read", "/ as %2F"),
    ("redis://db/0#sesame", "cannot be read", "# as %23"),
    ("redis://db:sesame/0", "a server or a port", "redis://host:6379/0"),
    ("redis://db:0", "a server or a port", "redis://host:6379/0"),
    ("redis://db:65536", "a server or a port", "redis://host:6379/0"),
    ("redis://db..example.org", "a server or a port", "redis://host:6379/0"),
    (f"redis://{'a' * 64}.org", "a server or a port", "redis://host:6379/0"),
    ("redis://one,two", "a server or a port", "redis://host:6379/0"),
    ("redis://db/staging", "not a number", "/0"),
    ("redis://db/-1", "not a number", "/0"),
    ("redis://db/1/2", "not a number", "/0"),
    ("redis://db/" + "9" * 5000, "not a number", "/0"),
    ("redis://db/1?db=2", "two numbers", "remove one"),
    ("redis://db?db=sesame", "value of db", "db must be a number"),
    ("redis://db?db=", "value of db", "db must be a number"),
    ("redis://db?foo=1", "an unknown option", "options: db, username, password"),
    ("redis://db?ssl=true", 'option "ssl"', "rediss://"),
    ("redis://db?pasword=sesame", 'option "pasword"', 'did you mean "password"?'),
    ("redis://db?socket_keepalife=1", 'option "socket_keepalife"', 'did you mean "socket_keepalive"?'),
    ("redis://db?socket_keepalive=perhaps", "value of socket_keepalive", "true or false"),
    ("redis://db?socket_timeout=soon", "value of socket_timeout", "seconds"),
    ("redis://db?ssl_cert_reqs=none", 'option "ssl_cert_reqs"', "rediss://"),
    ("redis://db?retry=1", "an unknown option", "options: "),
    ("redis://db?connection_class=x", "an unknown option", "options: "),
    ("redis://db?sentinel_password=x", 'option "sentinel_password"', "redis+sentinel://"),
    ("redis://db?password=a&password=b", "password twice", "remove one"),
    ("redis://db?sesame", "an unknown option", "%3F"),
    ("rediss://db?ssl_cert_reqs=sesame", "value of ssl_cert_reqs", "none, optional or required"),
    ("rediss://db?ssl_cert_req=none", 'option "ssl_cert_req"', 'did you mean "ssl_cert_reqs"?'),
    ("rediss://db?ssl_ciphers=sesame", "value of ssl_ciphers", "OpenSSL"),
    ("rediss://db?ssl_min_version=1.0", "value of ssl_min_version", "1.2 or 1.3"),
    ("rediss://db?ssl_include_verify_flags=sesame", "value of ssl_include_verify_flags", "VERIFY_X509_STRICT"),
    ("unix://redis.sock", "does not name a socket", "unix:///path"),
    ("unix:///run/redis.sock?socket_keepalive=1", 'option "socket_keepalive"', "no keep-alive"),
    ("redis+sentinel:///main", "names no server", "mymaster"),
    ("redis+sentinel://one", "names no service", "mymaster"),
    ("redis+sentinel://one/main/first", "not a number", "/0"),
    ("redis+sentinel://one/main?sentinel_ssl_ca_certs=ca.pem", "without TLS", "sentinel_tls=true"),
    ("redis+sentinel://one/main?sentinel_db=1", 'option "sentinel_db"', 'did you mean "sentinel_tls"?'),
    ("redis+sentinel://one/main,", "names no service", "mymaster"),
    ("redis+servers://", "names no server", "redis+servers://host:6379,host:6379"),
    ("redis+servers://one,two/main", "not a number", "/0"),
    ("redis+cluster://", "names no server", "redis+cluster://host"),
    ("redis+cluster://one/3", "names a database", "only one"),
    ("rediss://db?ssl_ca_certs=/no/such/ca.pem", "ssl_ca_certs=/no/such/ca.pem of", "does not exist"),
    ("rediss://db?ssl_ca_certs=sesame", "ssl_ca_certs of the Redis URL does not exist", "/path/to/file.pem"),
    ("rediss://db?ssl_keyfile=/dev/null", "without a certificate", "ssl_certfile"),
    ("rediss://db?ssl_certfile=/dev/null", "no certificate", "ssl_certfile"),
    ("rediss://db?ssl_ca_certs=/dev/null", "holds no certificate", "ssl_ca_certs"),
    ("rediss://db?ssl_ca_path=/no/folder", "is not a folder", "ssl_ca_path"),
    ("rediss://db?ssl_ca_data=sesame", "holds no certificate", "ssl_ca_data"),
]


@pytest.mark.parametrize(("url", "shown"), UNDERSTOOD)
def test_a_url_that_is_understood_is_shown_without_what_could_be_a_secret(url: str, shown: str) -> None:
    assert redact(url) == str(parse_redis_url(url)) == shown


@pytest.mark.parametrize(("url", "what", "remedy"), REFUSED)
def test_a_url_that_cannot_be_used_is_a_mistake_of_the_user_with_a_remedy(url: str, what: str, remedy: str) -> None:
    with pytest.raises(UsageError) as refused:
        dialer_for(url, "lab")

    assert (refused.value.code, refused.value.exit_code) == ("FQ200", 2)
    assert what in refused.value.message + " " + refused.value.hint
    assert remedy in str(refused.value)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://:a%2Fb%23c%3Fd%40e%20f@db", "redis://db?password=a%2Fb%23c%3Fd%40e%20f"])
def test_an_encoded_password_arrives_decoded(url: str) -> None:
    assert parse_redis_url(url).settings["password"] == "a/b#c?d@e f"


def test_the_options_of_sentinels_are_apart_from_those_of_the_primary() -> None:
    url = parse_redis_url("redis+sentinel://u:p@one/main/2?sentinel_username=s&sentinel_password=q&client_name=etl")

    assert url.settings == {"username": "u", "password": "p", "client_name": "etl", "db": 2}
    assert url.options.sentinel == {"username": "s", "password": "q"}


# Any six characters of a secret include Z7, which no word of ours has, so that a match is no accident.
secrets = st.text(string.ascii_letters + string.digits + "/#?@:[]%&=+;,.$ é\\\"'", min_size=6, max_size=20).map(
    lambda text: "".join(f"Z7{text[at : at + 3]}" for at in range(0, len(text), 3))
)
PLACES = [
    "redis://{}@db:6379/0",
    "redis://{}:@db:6379/0",
    "redis://{}:word@db:6379/0",
    "redis://:{}@db:6379/0",
    "redis://app:{}@db:6379/0",
    "redis://app:{}",
    "redis://:{}",
    "redis://db:{}/0",
    "redis://db/{}",
    "redis://db/0/{}",
    "redis://db/0#{}",
    "redis://db/0?{}",
    "redis://db/0?{}=1",
    "redis://db/0?pasword={}",
    "redis://db/0?password={}",
    "redis://db/0?username={}",
    "redis://db/0?client_name={}",
    "redis://db/0?db={}",
    "redis://db/0?socket_timeout={}",
    "redis://db/0?encoding={}",
    "rediss://:{}@db:6379/0",
    "rediss://db/0?ssl_cert_reqs={}",
    "rediss://db/0?ssl_password={}",
    "rediss://db/0?ssl_ciphers={}",
    "rediss://db/0?ssl_ca_data={}",
    "unix://:{}@/run/redis.sock",
    "unix://{}@/run/redis.sock",
    "unix:///run/redis.sock?db={}",
    "redis+sentinel://:{}@one,two/main/0",
    "redis+sentinel://one:{}/main/0",
    "redis+sentinel://one/main/{}",
    "redis+sentinel://one/main?sentinel_password={}",
    "redis+sentinel://one/main?sentinel_pasword={}",
    "redis+cluster://:{}@one,two",
    "redis+cluster://one/{}",
    "{}://db",
    "{}",
]


@given(st.sampled_from(PLACES), secrets, st.booleans())
def test_a_secret_is_shown_nowhere_wherever_in_the_url_it_stands(place: str, secret: str, encoded: bool) -> None:
    assume(encoded or "@" in place or "@" not in secret)  # what follows is then the host
    assume("flowq" not in secret)  # which is in each path of a traceback
    url = place.format(quote(secret, safe="") if encoded else secret)
    shown = [redact(url)]
    if place.startswith(("redis", "unix")) and " " not in secret:
        shown.append(redact_text(f"cannot use {url}"))
    try:
        shown += [dialer_for(url, "lab").address, repr(parse_redis_url(url))]
    except UsageError as error:
        shown += ["".join(traceback.format_exception(error)).replace(url, ""), *map(str, problems_of(error))]

    # Neither whole nor in part: what is printed is no part of it that is longer than a word of ours may be by chance.
    for text in shown:
        assert "Z7" not in text, text
        assert not any(secret[i : i + 6] in text for i in range(len(secret) - 5)), text


@pytest.mark.parametrize("name", ["hunter", "sesame_open", "correcthorse", "tls_secret", "monkey_password", "db_pass"])
def test_a_secret_in_the_place_of_an_option_is_not_printed(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        dialer_for(f"redis://db/0?{name}=1", "lab")

    assert name not in "".join(traceback.format_exception(refused.value)) + str(problems_of(refused.value))


@given(st.text())
def test_whatever_stands_for_a_url_is_refused_in_plain_words_or_understood(text: str) -> None:
    shown = redact(text)
    try:
        parse_redis_url(text)
    except UsageError:
        assert shown.endswith("***")


def test_text_keeps_the_urls_that_hold_no_secret() -> None:
    text = "redis://host:6379/0, rediss:// for TLS, or unix:///path (http://example.org/a@b)"

    assert redact_text(text) == text
    assert redact_text("int('redis://user:sesame@host/0')") == "int('redis://***@host:6379/0"
    assert redact_text("a postgres://me:sesame@db/lab") == "a postgres://***@db/lab"


@pytest.mark.parametrize("formatter", [TextFormatter("%(message)s"), JsonFormatter({})])
def test_a_log_line_holds_no_login(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("cannot use redis://:sesame@db/0")
    except ValueError:
        record = logging.LogRecord("lab", logging.ERROR, "", 0, "redis://:ses/ame@db, %s", ("x",), sys.exc_info())

    assert "sesame" not in formatter.format(record)
    assert "ses/ame" not in formatter.format(record)
    assert "redis://***" in formatter.format(record)


def test_certificates_are_looked_for_from_the_root_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "tls files").mkdir()
    (tmp_path / "tls files" / "ca.pem").touch()
    url = "rediss://db?ssl_ca_certs=tls%20files/ca.pem&ssl_certfile=/etc/hosts&ssl_keyfile=sesame"

    own, absolute, unknown = with_files_of(tmp_path, url).partition("?")[2].split("&")

    assert own == f"ssl_ca_certs={quote(str(tmp_path))}/tls%20files/ca.pem"
    assert (absolute, unknown) == ("ssl_certfile=/etc/hosts", "ssl_keyfile=sesame")


@pytest.mark.parametrize("value", ["S" * 5000, "a%00b", "%ff%fe", "a/" * 3000])
def test_what_cannot_be_the_name_of_a_file_stays_as_it_is(value: str, tmp_path: Path) -> None:
    url = f"rediss://db?ssl_keyfile={value}"

    assert with_files_of(tmp_path, url) == url
