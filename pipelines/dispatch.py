"""Sends airlines a signed webhook for flights an hour late and an e-mail for cancelled ones: `flowq run dispatch`.

To try it, start the receivers: `python -m examples.dispatch.receivers`. Webhooks follow the Standard Webhooks rules.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.message import EmailMessage

import aiosmtplib
import httpx2
from pydantic import BaseModel
from standardwebhooks import Webhook

from flowq import Context, Pipeline, Rate, Reject, Retry, RetryLater, resource, retry_after, stage, use
from pipelines.flights import Row, rows

WEBHOOKS = os.environ.get("DISPATCH_WEBHOOKS", "http://127.0.0.1:8026")
SMTP = os.environ.get("DISPATCH_SMTP", "127.0.0.1:8025")
# While a secret is rotated there are two, separated by a space: a receiver accepts either.
SECRETS = os.environ.get("DISPATCH_SECRETS", "whsec_dGhpcyBvbmUgaXMgbm90IHNlY3JldA==").split()
LATE_MINUTES = 60
RETRY = Retry(attempts=8, base=float(os.environ.get("DISPATCH_RETRY_SECONDS", "5")), max=86_400)


class Hook(BaseModel):
    id: str
    receiver: str
    origin: str
    dest: str
    minutes_late: int


class Mail(BaseModel):
    id: str
    to: str
    subject: str


class Delayed(BaseModel):
    """The body of a webhook."""

    type: str = "flight.delayed"
    timestamp: datetime
    data: Hook


@resource
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    # A receiver that redirects has failed: following it would send a signed body to an unknown host.
    async with httpx2.AsyncClient(base_url=WEBHOOKS, timeout=20, follow_redirects=False) as http:
        yield http


@resource
async def mailer() -> AsyncIterator[aiosmtplib.SMTP]:
    host, _, port = SMTP.partition(":")
    smtp = aiosmtplib.SMTP(hostname=host, port=int(port or 25), timeout=20)
    yield smtp
    if smtp.is_connected:
        await smtp.quit()


@stage(inline=True)
def notify(row: Row) -> Hook | Mail | None:
    if row.dep_time is None:
        return Mail(id=row.key, to=f"{row.carrier}@airlines.example", subject=f"{row.key} to {row.dest} is cancelled")
    late = row.dep_delay or 0
    if late < LATE_MINUTES:
        return None
    return Hook(id=row.key, receiver=row.carrier, origin=row.origin, dest=row.dest, minutes_late=late)


@stage(concurrency=8, dedup="id", rate=Rate(400, by="receiver"), retry=RETRY)
async def webhook(hook: Hook, ctx: Context, http: httpx2.AsyncClient = use(client)) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    body = Delayed(timestamp=now, data=hook).model_dump_json()
    headers = {
        "content-type": "application/json",
        "webhook-id": ctx.message_id,  # the same in every attempt, so that the receiver recognises repeats
        "webhook-timestamp": f"{now.timestamp():.0f}",
        "webhook-signature": " ".join(Webhook(secret).sign(ctx.message_id, now, body) for secret in SECRETS),
    }
    r = await http.post(f"/{hook.receiver}", content=body, headers=headers)
    if r.status_code == 410:
        raise Reject("HTTP 410: the receiver no longer accepts webhooks")
    if r.status_code in (429, 502, 503, 504):
        raise RetryLater(f"HTTP {r.status_code}", after=retry_after(r), hold="receiver")
    r.raise_for_status()


@stage(concurrency=1, dedup="id", retry=RETRY)  # one connection, one mail at a time
async def email(mail: Mail, ctx: Context, smtp: aiosmtplib.SMTP = use(mailer)) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "flights@dispatch.example", mail.to, mail.subject
    message["Message-ID"] = f"<{ctx.message_id}@dispatch.example>"
    message["Auto-Submitted"] = "auto-generated"  # suppresses out-of-office replies
    if not smtp.is_connected:
        await smtp.connect()
    try:
        await smtp.send_message(message)
    except aiosmtplib.SMTPResponseException as error:
        if error.code >= 500:
            raise Reject(f"SMTP {error.code} {error.message}") from error
        raise  # such as 451, try again later


dispatch = Pipeline("dispatch", rows >> notify >> (webhook | email))
