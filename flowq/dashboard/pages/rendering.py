"""Templates to answers: what each template may use, and that text stays text."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse

from flowq.dashboard.live.look import Look
from flowq.dashboard.live.site import site_of
from flowq.dashboard.live.watch import Watch, trouble_text
from flowq.printable import printable_block, spelled_out


def _prints(value: Any) -> Any:
    """Texts are escaped twice: what does not print, such as marks that turn writing around, and then what is HTML."""
    return printable_block(value) if type(value) is str else value


# Always: a name that ends otherwise than .html must not switch it off.
_TEMPLATES = Environment(
    loader=PackageLoader("flowq.dashboard"), autoescape=True, finalize=_prints, trim_blocks=True, lstrip_blocks=True
)


def render(
    request: Request,
    template: str,
    *,
    watch: Watch | None = None,
    look: Look | None = None,
    tab: str = "",
    status_code: int = 200,
    **values: Any,
) -> HTMLResponse:
    """A page. Each template also has what `base.html` lists, `site`, `actor` and `link("p", name, "dead", since="1h")`.

    watch, look: of the pipeline that the page is about, if it is about one.
    tab: "graph", "dead", "trace" or "workers".
    """
    site, root = site_of(request), request.scope.get("root_path", "")
    link = partial(address, root)
    text = _TEMPLATES.get_template(template).render(
        {
            "site": site,
            "watch": watch,
            "look": look,
            "root": root,
            "link": link,
            "tab": tab,
            "pipelines": list(site.watches),
            "read_only": not site.options.allow_actions,
            "token": request.state.page_token if site.options.allow_actions else "",
            "actor": request.state.actor,
            **(_of_pipeline(link, watch, look) if watch else {}),
            **values,
        }
    )
    return HTMLResponse(text.encode(errors="backslashreplace"), status_code)


def _of_pipeline(link: partial[str], watch: Watch, look: Look | None) -> dict[str, Any]:
    name, trouble = watch.plan.name, watch.trouble
    return {
        "pipeline": name,
        "slots": look.texts if look else {},
        "conn": "error" if trouble else "live" if look else "load",
        "trouble": trouble_text(trouble) if trouble else "",
        "feed": link("p", name, "events"),
        "at": link("p", name, "at"),
        "every": watch.every_seconds,
        "plan": watch.plan_hash if look else "",  # with the first look the page reloads
    }


def address(root: str, *parts: str, **query: str | None) -> str:
    """An address of this server, whatever it is mounted under. Parts and values may hold any text."""
    path = "/".join(quote(spelled_out(part), safe="") for part in parts)
    asked = "&".join(f"{key}={quote(spelled_out(value), safe='')}" for key, value in query.items() if value)
    return f"{root}/{path}" + (f"?{asked}" if asked else "")
