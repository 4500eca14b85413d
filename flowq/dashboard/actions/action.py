"""What all actions share: read from JSON, previewed, done with the number that was shown, and recorded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from flowq.broker.audit import Act
from flowq.dashboard.access.shown_fields import ShownFields
from flowq.dashboard.live.watch import Watch
from flowq.errors import UsageError
from flowq.settings import Settings
from flowq.wording.quantities import counted
from flowq.wording.shell_commands import shell_command


class NumberChanged(UsageError):
    """An action was confirmed for a number of messages that has changed since."""

    code = "FQ222"

    def __init__(self, message: str, n: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.n = n


class DoesNotRead(UsageError):
    """An action with invalid fields. `errors` has the path of each, "" for all of it, and what is wrong."""

    code = "FQ223"

    def __init__(self, message: str, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an action takes place: the pipeline, what the page shows of messages, and how to connect."""

    watch: Watch
    shown: ShownFields
    settings: Settings

    @property
    def name(self) -> str:
        return self.watch.plan.name


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Number = Annotated[int | None, BeforeValidator(_none_if_empty)]
"""A number of a form, whose fields are texts; None if it is empty."""


class Asked(BaseModel):
    """What can be read even of an action that is not valid. With `dry_run` the answer only says what would happen.

    >>> Asked.read(b'{"dry_run": true, "no such field": 1}').dry_run, Asked.read(b"{").dry_run
    (True, False)
    """

    dry_run: bool = False

    @classmethod
    def read(cls, body: bytes) -> Asked:
        try:
            return Asked.model_validate_json(body)
        except ValidationError:
            return Asked()


class Action(Asked):
    """One action, as a form sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]
    """Its name in the audit."""
    page: ClassVar[str] = ""
    """The page of the pipeline to show next, such as "dead"; "" for the one that is open."""

    @abstractmethod
    def words(self, scene: Scene) -> tuple[str, ...]:
        """What it is about, as it is typed after the name of the pipeline. Raises UsageError if it does not exist."""

    @abstractmethod
    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        """What it would do: values for the places of its dialog."""

    @abstractmethod
    async def perform(self, scene: Scene, act: Act) -> str:
        """Do it; returns what was done, in one sentence. `act.n` is set to the number of messages."""


class OnStageOrAll(Action):
    """An action on a stage; without one, on the whole pipeline."""

    stage: str = ""

    def words(self, scene: Scene) -> tuple[str, ...]:
        return (scene.watch.plan.stage(self.stage).name,) if self.stage else ()


def target_command(scene: Scene, command: str, stage: str, *words: str) -> str:
    """A command about a pipeline, or about a stage of it if there is one."""
    return shell_command("flowq", command, f"{scene.name}.{stage}" if stage else scene.name, *words)


def agreed(expected: int | None, there: int, noun: str) -> int:
    """The number that was confirmed. Raises NumberChanged if it has changed since."""
    if expected != there:
        was = "" if expected is None else f", not {expected:,}"
        raise NumberChanged(
            f"{counted(there, noun)} now{was}: nothing was changed",
            there,
            hint="confirm again",
        )
    return there


def confirmed(scene: Scene, typed: str, n: int) -> None:
    """Raise UsageError unless the name of the pipeline and the number were typed."""
    if typed != unlocking(scene, n):
        raise UsageError(f'type "{unlocking(scene, n)}" to confirm: nothing was changed')


def unlocking(scene: Scene, n: int) -> str:
    """What is typed to confirm what cannot be undone."""
    return f"{scene.name} {n}"
