"""The texts on the cards of a graph, as a browser sets them in a wide font: none touches another or leaves its card."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

import flowq.dashboard
from flowq.dashboard.picture.graph_picture import GraphPicture
from flowq.graph.compilation.plan import Plan
from tests.unit.graph.plans import LONG, SCRAPE, TANGLE, Doc, plan

FOLDER = Path(flowq.dashboard.__file__).parent
WIDEST = {
    "rate": "9,999/s",
    "brief": "held back by trans…",
    "word": "keeps up",
    "slots": "600 of 600 +2k",
    "p50": "<0.1ms",
    "p95": "59m59s",
    "few_retries": "99.9k",
    "dead_letters": "99.9k",
    "ok": "999,999,999",
    "fill": "100%",
    "waiting": "99,999",
    "delayed": "99,999",
    "oldest": "59m59s",
    "forecast": "empty in 88 min",
    "n": "99.9k",
    "neck": "yes",
    "mortal": "yes",
    "state": "blocked",
    "level": "full",
    "icon": "#i-blocked",
    "stroke": "5",
    "meter": "96",
    "use": "30",
}
FIFTEEN = plan(
    "fifteen",
    {f"translate_the_descriptions_{number}": {} for number in range(15)},
    [(f"translate_the_descriptions_{n}", f"translate_the_descriptions_{n + 1}", Doc) for n in range(14)],
)
TOUCHING = """() => {
    const found = [];
    for (const card of document.querySelectorAll('.node, .queue')) {
        const border = card.querySelector('.box, .pill').getBoundingClientRect();
        const texts = [...card.querySelectorAll('text')].filter(text => text.textContent && text.checkVisibility());
        const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect(), text.closest('.flag')]);
        for (const [text, box, flag] of boxes)
            if (!flag && (box.left < border.left + 4 || box.right > border.right - 4))
                found.push(`${text} leaves its card`);
        for (const [at, [one, a]] of boxes.entries())
            for (const [other, b] of boxes.slice(at + 1))
                if (a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
                    found.push(`${one} touches ${other}`);
    }
    return found;
}"""


def shown(drawn: Plan) -> str:
    picture = GraphPicture.of(drawn, lambda stage: f"/{stage}")
    values = {name: WIDEST.get(name.rpartition(".")[2], "") for name in picture.graph.names}
    css = (FOLDER / "static" / "flowq.css").read_text()
    sprite = (FOLDER / "templates" / "parts" / "sprite.html").read_text()
    wide = ":root { --sans: 'DejaVu Sans' }"
    return f"<!doctype html><style>{css}{wide}</style>{sprite}<div class=sheet>{picture.graph.filled(values)}</div>"


@pytest.mark.parametrize("drawn", [SCRAPE, LONG, TANGLE, FIFTEEN], ids=lambda drawn: drawn.name)
def test_no_two_texts_of_a_card_touch_in_a_wide_font(page: Page, drawn: Plan) -> None:
    page.set_content(shown(drawn))
    assert page.evaluate("document.fonts.check('11px \"DejaVu Sans\"')")

    assert page.evaluate(TOUCHING) == []
