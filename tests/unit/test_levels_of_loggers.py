"""What `--log-level` takes, and what it refuses."""

from __future__ import annotations

import pytest

from flowq.cli.framework.log_levels import levels_of
from flowq.errors import UsageError


@pytest.mark.parametrize(
    ("level", "error"),
    [
        ("loud", 'there is no level "loud"'),
        ("shop=", 'there is no level ""'),
        ("=debug", "names no logger"),
        ("info,,debug", 'there is no level ""'),
        ("10", 'there is no level "10"'),
    ],
)
def test_a_level_that_is_none_is_refused_with_a_remedy(level: str, error: str) -> None:
    with pytest.raises(UsageError) as refused:
        levels_of([level])

    assert error in refused.value.message
    assert refused.value.hint
