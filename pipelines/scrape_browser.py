"""The same crawl as scrape in a browser, for sites that build their pages with JavaScript.

`flowq run scrape_browser -a url=https://…` needs Chromium, and `pip install 'flowq-streams[browser]'`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from flowq import Context, Pipeline, Retry, resource, stage, use
from flowq.scraping import Link, Page, Web
from flowq.scraping.browser import Browser
from pipelines.scrape import RATE, parse, seeds, store, web


@resource
async def browser(web: Web = use(web)) -> AsyncIterator[Browser]:
    async with Browser(web) as browser:
        yield browser


# A page in a browser needs a hundred times the memory of one that is only parsed.
@stage(concurrency=4, dedup="url", rate=RATE, retry=Retry(attempts=5, base=0.5), timeout="2m")
async def render(link: Link, ctx: Context, web: Web = use(web), browser: Browser = use(browser)) -> list[Page | Link]:
    found = await browser.fetch(link)
    if delay_seconds := await web.crawl_delay_seconds(link.url):
        ctx.pace(delay_seconds)
    return found


scrape_browser = Pipeline("scrape_browser", seeds >> render >> (parse | render), parse >> (store | render))
