"""Bodies of HTTP responses: whether they are pages, and their text as browsers decode it. Pure."""

from __future__ import annotations

import re

from w3lib.encoding import html_body_declared_encoding, html_to_unicode, http_content_type_encoding
from xtractmime import extract_mime  # pyright: ignore[reportMissingTypeStubs]

_SNIFFED_BYTES = 1445  # as the MIME Sniffing Standard says
_XHTML = "application/xhtml+xml"
_HTML_TYPES = frozenset({"text/html", _XHTML})
_UNKNOWN_TYPES = frozenset({"unknown/unknown", "application/unknown", "*/*"})
_SELF_CLOSED = re.compile(r"<([a-zA-Z][\w-]*)(\s[^<>]*)?/>")
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
# The Python names of the encodings of the web. Python has others, such as "undefined" and "idna", that no page means.
_WEB_CODECS = frozenset(
    {"utf-8", "utf-16-le", "utf-16-be", "cp866", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "cp874", "gb18030"}
    | {"big5hkscs", "euc_jp", "iso2022_jp", "cp932", "cp949"}
    | {f"cp{n}" for n in range(1250, 1259)}
    | {f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)}
)


def may_be_html(content_type: str) -> bool:
    """Whether a body with this Content-Type may be a page: it says so, or says nothing useful."""
    essence = _essence(content_type)
    return essence in _HTML_TYPES or "/" not in essence or essence in _UNKNOWN_TYPES


def is_html(content_type: str, body: bytes) -> bool:
    """Whether a body is a page, by its Content-Type, and by its first bytes if that is missing or wrong.

    >>> is_html("Text/HTML; charset=utf-8", b"text"), is_html("", b"<!DOCTYPE html>"), is_html("text/html", b"%PDF-1.7")
    (True, True, False)
    """
    if not may_be_html(content_type):
        return False
    head = decoded(body[:_SNIFFED_BYTES], content_type)[0].encode()  # sniffing knows no UTF-16
    found = (extract_mime(head) or b"").decode()
    return found.startswith("text/") if _essence(content_type) in _HTML_TYPES else found == "text/html"


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].partition(",")[0].strip().lower()


def decoded(body: bytes, content_type: str) -> tuple[str, str]:
    """The text of a page and its encoding, by the Encoding Standard: byte order mark, header, `<meta>`, else UTF-8.

    Never raises: undecodable bytes are replaced by U+FFFD.

    >>> decoded("Zürich".encode("cp1252"), "text/html; charset=ISO-8859-1")
    ('Zürich', 'cp1252')
    """
    declared = http_content_type_encoding(content_type)
    if declared == "utf-16":
        declared = "utf-16-le"
    if declared not in _WEB_CODECS:
        declared = html_body_declared_encoding(body)
        if declared is not None and declared.startswith("utf-16"):
            declared = "utf-8"  # it was found by reading single bytes, so it cannot be true
    encoding, text = html_to_unicode(f"text/html; charset={declared if declared in _WEB_CODECS else 'utf-8'}", body)
    return text, encoding


def as_html(text: str, content_type: str) -> str:
    """The text of a page as HTML: in XHTML, "<script/>" is a complete element; in HTML it would extend to the end.

    >>> as_html("<title/><br/><p>", "application/xhtml+xml"), as_html("<title/>", "text/html")
    ('<title></title><br/><p>', '<title/>')
    """
    return _SELF_CLOSED.sub(_with_end_tag, text) if _essence(content_type) == _XHTML else text


def _with_end_tag(found: re.Match[str]) -> str:
    name, attributes = found[1], found[2] or ""
    return found[0] if name in _VOID else f"<{name}{attributes}></{name}>"
