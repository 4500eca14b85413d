"""The bug: a worker remembers in its own memory what it has sent. The worker that takes over does not know it."""

from __future__ import annotations

import asyncio
from collections import Counter

from pydantic import BaseModel

from flowq import Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Invitation(BaseModel):
    guest: int


class Post:
    """Delivers every letter that it is given."""

    def __init__(self) -> None:
        self.sent: Counter[int] = Counter()
        self.seen: set[int] = set()  # survives all workers, as a database does

    async def send(self, invitation: Invitation) -> None:
        await asyncio.sleep(0.01)
        self.sent[invitation.guest] += 1


@resource
def post() -> Post:
    return Post()


@resource
def sent_here() -> set[int]:
    return set()


@stage
async def invite(invitation: Invitation, post: Post = use(post), sent_here: set[int] = use(sent_here)) -> None:
    if invitation.guest not in sent_here:
        sent_here.add(invitation.guest)
        await post.send(invitation)


@stage(name="invite")
async def invite_once(invitation: Invitation, post: Post = use(post)) -> None:
    if invitation.guest not in post.seen:
        await post.send(invitation)
        post.seen.add(invitation.guest)


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("invite", Invitation(guest=number))
    await h.drain()
    sent = h.resource(post).sent
    assert sent.keys() == set(range(size))
    for guest, times in sent.items():
        assert times == 1, f"guest {guest} was invited {times} times"


BUG = Bug(Pipeline("party", invite), Pipeline("party", invite_once), build, lambda: {post: Post()})
