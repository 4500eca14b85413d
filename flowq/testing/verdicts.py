"""What a test is told when it fails: assertion errors of the kit, each with a code and a remedy."""

from __future__ import annotations

from flowq.errors import FlowqError


class Verdict(FlowqError, AssertionError):
    """Something that a test has found out about a pipeline. Test runners show it as a failure, not as an error."""

    code = "FQ600"


class NotDrained(Verdict):
    """Messages are left that nothing will ever handle, or not within the limit. The text names each of them."""

    code = "FQ601"


class InvariantBroken(Verdict):
    """A message was lost or settled twice, something was left behind in Redis, or a balance does not add up."""

    code = "FQ602"


class NotAsExpected(Verdict):
    """The outputs of a stage, its errors, or the effects in a ledger are not the expected ones."""

    code = "FQ603"


class NeverCompared(Verdict):
    """`h.expect(stage)` was not followed by a comparison, so that it has checked nothing."""

    code = "FQ604"


class WorkerEnded(Verdict):
    """A simulated worker has ended with an error, as a process would have done in production."""

    code = "FQ605"
