"""Stages and sources: decorated functions of the user, typed by the messages they accept and emit."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Never, Protocol, Self, TypeVar, Unpack, cast, overload

from flowq.errors import PipelineError, Problem
from flowq.graph.declaration.definition import Definition
from flowq.graph.declaration.flow import Flow, In, In2, Out, Out2, Sink, Target, Wiring, wiring_of
from flowq.graph.declaration.options import BatchOptions, StageOptions

I = TypeVar("I")  # noqa: E741  (the input of a handler, as O is its output)
O = TypeVar("O")  # noqa: E741


class SinkChoice(Sink[In]):
    """Several sinks that share messages by type: what `store | report` returns."""

    @overload
    def __or__(self, other: SinkChoice[In2], /) -> SinkChoice[In | In2]: ...
    @overload
    def __or__(self, other: Choice[In2, Out2], /) -> Choice[In | In2, Out2]: ...
    def __or__(self, other: Any, /) -> Any:
        return _either(self, other)

    if not TYPE_CHECKING:  # a type checker rejects `(a, b) | c`

        def __ror__(self, other: Any, /) -> Any:
            return _either(other, self)


class Choice(Flow[In, Out]):
    """Several stages that share messages by type, each message going to the stage that accepts it: `parse | store`."""

    @overload
    def __or__(self, other: SinkChoice[In2], /) -> Choice[In | In2, Out]: ...
    @overload
    def __or__(self, other: Choice[In2, Out2], /) -> Choice[In | In2, Out | Out2]: ...
    def __or__(self, other: Any, /) -> Any:
        return _either(self, other)

    if not TYPE_CHECKING:  # a type checker rejects `(a, b) | c`

        def __ror__(self, other: Any, /) -> Any:
            return _either(other, self)


class _Declared(Target[In]):
    """A decorated function. It has the function's name and docstring."""

    def __init__(self, definition: Definition) -> None:
        super().__init__(Wiring.choice(definition))
        self.definition = definition
        functools.update_wrapper(cast("Any", self), definition.fn, updated=())

    @property
    def name(self) -> str:
        """The name in the pipeline: that of the function, unless the option `name` is set."""
        return self.definition.name

    @property
    def fn(self) -> Callable[..., Any]:
        """The function itself."""
        return self.definition.fn


class _Handler(_Declared[In]):
    """A declared stage: calling it calls the function."""

    def __call__(self, message: In, /, *args: Any, **kwargs: Any) -> Any:
        return self.definition.fn(message, *args, **kwargs)

    def options(self, **changes: Unpack[BatchOptions]) -> Self:
        """A copy with other options. A pipeline that uses both needs another `name` for one of them."""
        return type(self)(Definition(self.fn, {**self.definition.options, **changes}))


class SinkStage(_Handler[In], SinkChoice[In]):
    """A stage whose function returns None: messages end here."""


class Stage(_Handler[In], Choice[In, Out]):
    """A stage that accepts messages of type In and emits messages of type Out.

    >>> @stage(concurrency=2)
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double(21)
    42
    >>> double.options(name="twice", concurrency=4).name
    'twice'
    """


class Source(_Declared[Never], Flow[Never, Out]):
    """Where messages come from. Its arguments are set on the command line: `flowq run scrape -a n=3`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.definition.fn(*args, **kwargs)


# The order of the overloads matters: the first match decides, and None matches almost everywhere. None of
# them may match on `Iterable[O]`: a pydantic model is iterable, and `-> Item` would emit its fields.


class DecorateOne(Protocol):
    """What `@stage(...)` returns: a decorator for functions of one message."""

    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], AsyncIterable[O]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], Coroutine[Any, Any, None]], /) -> SinkStage[I]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], Coroutine[Any, Any, list[O]]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], Coroutine[Any, Any, O]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], Iterator[O]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], None], /) -> SinkStage[I]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], list[O]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[I, ...], O], /) -> Stage[I, O]: ...


class DecorateBatch(Protocol):
    """What `@stage(batch=...)` returns: a decorator for functions of a list of messages."""

    @overload
    def __call__(self, fn: Callable[Concatenate[list[I], ...], AsyncIterable[O]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[list[I], ...], Coroutine[Any, Any, None]], /) -> SinkStage[I]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[list[I], ...], Coroutine[Any, Any, list[O]]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[list[I], ...], Iterator[O]], /) -> Stage[I, O]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[list[I], ...], None], /) -> SinkStage[I]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[list[I], ...], list[O]], /) -> Stage[I, O]: ...


@overload
def stage(
    *, batch: int, batch_bytes: int | str = ..., linger: float | str = ..., **options: Unpack[StageOptions]
) -> DecorateBatch: ...
@overload
def stage(**options: Unpack[StageOptions]) -> DecorateOne: ...
@overload
def stage(fn: Callable[Concatenate[I, ...], AsyncIterable[O]], /) -> Stage[I, O]: ...
@overload
def stage(fn: Callable[Concatenate[I, ...], Coroutine[Any, Any, None]], /) -> SinkStage[I]: ...  # type: ignore[overload-overlap]
@overload
def stage(fn: Callable[Concatenate[I, ...], Coroutine[Any, Any, list[O]]], /) -> Stage[I, O]: ...
@overload
def stage(fn: Callable[Concatenate[I, ...], Coroutine[Any, Any, O]], /) -> Stage[I, O]: ...
@overload
def stage(fn: Callable[Concatenate[I, ...], Iterator[O]], /) -> Stage[I, O]: ...
@overload
def stage(fn: Callable[Concatenate[I, ...], None], /) -> SinkStage[I]: ...  # type: ignore[overload-overlap]
@overload
def stage(fn: Callable[Concatenate[I, ...], list[O]], /) -> Stage[I, O]: ...
@overload
def stage(fn: Callable[Concatenate[I, ...], O], /) -> Stage[I, O]: ...
def stage(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a stage of a pipeline. Use it bare, or with options.

    The first parameter of the function is the message. The others are resources, `http: Client = use(client)`, or the
    context, `ctx: Context`. What the function returns goes to the next stage: a value is one message, None is none, a
    list or an iterator is many. They are sent when the function has finished, together with the settlement of the
    message; a function that raises sends nothing and is retried. A message may run more than once, after a crash for
    instance, but is settled once.

    The function may be a plain function, a coroutine function, a generator of either kind, a bound method, or an
    instance with `__call__`. One that is not a coroutine runs on a thread, and never blocks other stages.

    All options are keywords. Durations are seconds, or text such as "250ms", "10s", "5m", "1d"; sizes are bytes, or
    text such as "500kB", "5MB". The default is in parentheses.

    name: the name in the pipeline (that of the function).
    concurrency: how many messages, or batches, each worker process handles at once (10).
    retry: a `Retry` (5 attempts, with exponential backoff from 0.5 s to 60 s).
    rate: a `Rate`: how many messages may start per period, across all workers, in total or for each key (no limit).
    timeout: how long one call of the function may last before it counts as failed (no limit).
    dedup: drop messages that were seen before: the name of a field, a function of the message, or a `Dedup` to set how
        long they are remembered (until the next run).
    ack: "after" the function has succeeded; "first", before it runs (at most once, no retries); or "manual", by
        `await ctx.ack()` ("after").
    batch: call the function with a list of up to this many messages. A function that knows which of them failed raises
        `BatchFailed`; after any other error it is called again with each half.
    linger: how long the first message of a batch waits for others (0.2 s).
    batch_bytes: the most that the messages of a batch may have together, encoded (no limit).
    inline: True runs a fast, pure function on the event loop instead of a thread.
    process: True runs the function in a pool of processes, for CPU-bound work.
    max_bytes: the largest message that this stage accepts, encoded (1,000,000).
    compress: True, or the size above which messages to this stage are stored compressed, with zstd or else zlib.
    claim_above: the size, as stored, above which the body of a message to this stage is kept in a folder or bucket
        that all workers share, with only a reference to it in Redis; for bodies of many megabytes, with a `max_bytes`
        to match. Needs the extra `claim`.
    maxsize: how many messages an edge into this stage may hold before its producers stop reading (10,000 between
        stages, no limit for messages pushed from outside).
    maxsize_bytes: the same for the memory of Redis that an edge may use (64,000,000, and no limit).
    keep: how many settled messages are kept for `flowq replay` and `flowq trace`: a number of messages, or a duration
        such as "1h", for at most 100,000 messages (none, which costs nothing).
    place: for a pipeline with `shards`, what decides in which of them a message lives, if neither a rate nor `dedup=`
        does: the name of a field, a function of the message, "spread" for all of them evenly, or "here" for the one in
        which it was emitted, shard 0 for messages from outside ("here", and "spread" for messages from outside).
    bounded: True says that this stage bounds its cycles itself, for instance by depth, and silences the warning.

    Options that are plain data can also be set without changing the code, for a deployment or a single run: see
    `Pipeline.tuned` and `flowq config`.

    Raises PipelineError for a call with a function and options at once. All other mistakes in options and annotations
    are reported together, by the Pipeline that uses the stage.

    >>> from flowq import Rate, Retry, stage
    >>> @stage(retry=Retry(attempts=3, max="1m"), rate=Rate(600, per="1m"), timeout="30s")
    ... async def shout(text: str) -> str:
    ...     return text.upper()
    >>> shout
    <Stage shout>
    """
    if fn is not None and options:
        hint = "stage(concurrency=2)(function)"
        raise PipelineError([Problem("FQ106", "stage() got a function and options at once", hint=hint)])
    return functools.partial(_stage, options=options) if fn is None else _stage(fn, options)


@overload
def source(fn: Callable[..., AsyncIterable[O] | Iterator[O]], /) -> Source[O]: ...
@overload
def source(*, name: str) -> Callable[[Callable[..., AsyncIterable[O] | Iterator[O]]], Source[O]]: ...
def source(fn: Any = None, /, **options: Any) -> Any:
    """Make a generator function, async or not, a source of a pipeline: what it yields enters the pipeline.

    Its parameters are set when the pipeline is run (`flowq run numbers -a up_to=5`), or are resources. With a parameter
    annotated `SourceContext[...]` the source resumes where it stopped; without one, it starts from the beginning.

    name: the name in the pipeline (that of the function).

    A function that is not a generator, and parameters that cannot be used, are reported by the Pipeline.

    >>> from collections.abc import Iterator
    >>> @source
    ... def numbers(up_to: int = 3) -> Iterator[int]:
    ...     yield from range(up_to)
    >>> list(numbers(2))
    [0, 1]
    """
    if fn is None:
        return functools.partial(_source, options=options)
    return _source(fn, options)


def _stage(fn: Callable[..., Any], options: dict[str, Any]) -> SinkStage[Any] | Stage[Any, Any]:
    definition = Definition(fn, options)
    return SinkStage(definition) if definition.returns_nothing else Stage(definition)


def _source(fn: Callable[..., Any], options: dict[str, Any]) -> Source[Any]:
    return Source(Definition(fn, options, accepts_messages=False))


def _either(*both: Any) -> Any:
    for one in both:
        if not isinstance(one, (SinkChoice, Choice)):
            raise _refused_alternative(one)
    wiring = Wiring.choice(*(tail for one in both for tail in wiring_of(one).tails))
    if all(tail.returns_nothing for tail in wiring.tails):
        return SinkChoice[Any](wiring)
    return Choice[Any, Any](wiring)


def _refused_alternative(value: object) -> PipelineError:
    names = ", ".join(dict.fromkeys(definition.name for definition in wiring_of(value).definitions()))
    hint = "write a | b | c for stages, (a, b) >> c for flows"
    if isinstance(value, Target):
        hint = "write (a | b) >> c: without parentheses, >> binds tighter"
    return PipelineError([Problem("FQ112", f"{names}: only stages can be joined by |", hint=hint)])
