"""Splits outputs into batches small enough for one call: Redis is blocked while a call runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flowq.delivery.settlement import Output

MOST_PER_CALL = 1000
MOST_BYTES_PER_CALL = 8_000_000


def chunks(outputs: Iterable[Output], most_bytes: int = MOST_BYTES_PER_CALL) -> Iterator[list[Output]]:
    """Lazily made lists of up to 1,000 outputs and `most_bytes`; an output larger than that is alone in its list.

    >>> [len(chunk) for chunk in chunks(Output(">a", b"", b"x" * 3_000_000) for _ in range(5))]
    [2, 2, 1]
    """
    chunk: list[Output] = []
    n_bytes = 0
    for output in outputs:
        n_bytes += len(output.body)
        if chunk and (len(chunk) == MOST_PER_CALL or n_bytes > most_bytes):
            yield chunk
            chunk, n_bytes = [], len(output.body)
        chunk.append(output)
    if chunk:
        yield chunk
