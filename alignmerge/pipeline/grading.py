"""Which graders read an audit's answers: those whose weights, packages or endpoints the plan and this machine have."""

from collections.abc import Callable, Sequence

from alignmerge.auditor.graders import Grader
from alignmerge.auditor.pairs import paired_suites
from alignmerge.auditor.toxicity.grader import detoxify_grader
from alignmerge.auditor.toxicity.standin import ProfanityGrader
from alignmerge.errors import UsageError
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.suites.continuations import LABELS
from alignmerge.suites.model import Suite, select
from alignmerge.suites.registry import SUITES


def graders_of(plan: AuditPlan) -> tuple[Grader, ...]:
    """The graders with something to read among the plan's suites; none is loaded before it reads.

    Raises:
        UsageError: the stand-in was asked for and is not installed.
    """
    suites = plan.resolved()
    found: list[Grader | None] = [detoxify_grader(suites), ProfanityGrader(suites) if plan.standin else None]
    return tuple(grader for grader in found if grader is not None and grader.metrics)


def check_read(plan: AuditPlan, rubrics: Sequence[str] | None, compares: bool, based: bool) -> None:
    """Nothing, where everyone who was asked to read answers has some to read.

    `rubrics` are those of a judge, None without one; it `compares` where there is an anchor's audit. based: whether
    hidden states are to be held against a base's.

    Raises:
        UsageError: the option with nothing to read, and the suites that it reads.
    """
    from alignmerge.auditor.judge.grading import compared_in, read_in

    suites = plan.resolved()
    if plan.standin:
        _some("--standin", "the stand-in reads", suites, lambda suite: bool(set(LABELS) & set(suite.metrics)))
    if rubrics is not None:

        def judged(suite: Suite) -> bool:
            return bool(read_in(suite, rubrics) or (compares and compared_in(suite)))

        _some("--judge", f"a judge reads, under {', '.join(rubrics)},", suites, judged)
    if based and paired_suites(suites) is None:
        raise UsageError(
            f"--base: AQI is measured on suites with refusal_rate and over_refusal_rate together, and here are "
            f"{_names(suites)}; add --suite refusal --suite over_refusal, or leave it out"
        )


def _some(option: str, who: str, suites: Sequence[Suite], read: Callable[[Suite], bool]) -> None:
    if not any(map(read, suites)):
        those = [suite for suite in SUITES.values() if read(suite)]
        raise UsageError(
            f"{option}: {who} nothing in {_names(suites)}; it reads {_names(those) or 'no shipped suite'}: "
            "name one by --suite, or leave it out"
        )


def _names(suites: Sequence[Suite]) -> str:
    return ", ".join(suite.name for suite in suites)


def reads(plan: AuditPlan, graders: tuple[Grader, ...]) -> int:
    """How many answers the graders will read in one audit."""
    counts = {suite.name: len(select(suite, plan.split, plan.limit)) for suite in plan.resolved()}
    return sum(counts[suite] for grader in graders for suite in grader.metrics)
