"""A judge in a run: its exam, and whom it may not judge.

Notable decisions:
- The exam comes first and once. Under a rubric it failed, nothing is asked and every grade is unscored with the reason.
- A judge that is the candidate itself grades nothing unless that is allowed, and then every record says so.
- Verdicts are not kept for another run: a judge's server may hold another model by then, under the same name.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor.endpoint import Endpoint
from alignmerge.auditor.engines.base import Advance
from alignmerge.auditor.judge.ask import PROTOCOL, JudgeServer, Question
from alignmerge.auditor.judge.attacks import ATTACKS
from alignmerge.auditor.judge.exam import Exam, ExamLimits, examination, sit
from alignmerge.auditor.judge.gold import Gold, drawn, own
from alignmerge.auditor.judge.repeats import Opinion, opinions
from alignmerge.auditor.judge.rubric import PAIRWISE, RUBRICS
from alignmerge.auditor.wire.address import address
from alignmerge.errors import UsageError

SELF = "the judge is the candidate itself; give another judge, or allow it"


def check_rubrics(names: Sequence[str], more_gold: Sequence[Gold] = ()) -> None:
    """Nothing, where a judge can be asked under these rubrics.

    Raises:
        UsageError: an unknown one, or gold items of one that is not among them.
    """
    for name in names:
        if name not in RUBRICS:
            near = difflib.get_close_matches(name, RUBRICS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known rubrics: {', '.join(RUBRICS)}"
            raise UsageError(f"no rubric {name!r}; {hint}")
    stray = next((item.rubric for item in more_gold if item.rubric not in names), None)
    if stray is not None:
        raise UsageError(f"answers labelled for the rubric {stray}, which is not asked; ask it too, or leave them out")


def check_repeats(count: int) -> None:
    """Nothing, where a question can be asked so often.

    Raises:
        UsageError: fewer than once.
    """
    if count < 1:
        raise UsageError(f"a judge is asked at least once, not {count} times")


@dataclass
class Judging:
    """A judge, how often it is asked, and what its exam needs. One for all audits of a run.

    rubrics: those that are used. gold_limit: our gold items per rubric, None for all; `more_gold` is added to them.
    checkpoint: manifest digest of the judge's own weights, where known. allow_self: whether it may judge itself.

    Raises:
        UsageError: see `check_rubrics` and `check_repeats`.
    """

    server: JudgeServer
    repeats: int = 1
    rubrics: tuple[str, ...] = tuple(RUBRICS)
    limits: ExamLimits = field(default_factory=ExamLimits)
    more_gold: tuple[Gold, ...] = ()
    gold_limit: int | None = None
    attacks: tuple[str, ...] = ATTACKS
    checkpoint: str | None = None
    allow_self: bool = False
    _exams: dict[tuple[tuple[str, ...], bool], Exam] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_repeats(self.repeats)
        check_rubrics(self.rubrics, self.more_gold)

    def gold(self, rubrics: Sequence[str]) -> dict[str, tuple[Gold, ...]]:
        """The gold items of an exam in these rubrics."""
        more = {name: tuple(item for item in self.more_gold if item.rubric == name) for name in rubrics}
        return {name: (*drawn(own(name), self.gold_limit), *more[name]) for name in rubrics}

    def examine(self, rubrics: Sequence[str], pairwise: bool, progress: Advance | None = None) -> Exam:
        """The judge's exam in these rubrics, sat once.

        Raises:
            EndpointError: see `JudgeServer.ask`.
        """
        named = tuple(name for name in RUBRICS if name in rubrics)
        if (named, pairwise) not in self._exams:
            exam = sit(self.server, self.gold(named), pairwise, self.repeats, self.limits, progress, self.attacks)
            self._exams[named, pairwise] = exam
        return self._exams[named, pairwise]

    def replies(self, rubrics: Sequence[str], pairwise: bool) -> int:
        """How many replies an exam takes that is still to be sat."""
        named = tuple(name for name in RUBRICS if name in rubrics)
        sat = (named, pairwise) in self._exams
        return 0 if sat else self.repeats * len(examination(self.gold(named), pairwise, self.attacks))

    def is_candidate(self, candidate: str, answers: Endpoint | None = None) -> bool:
        """Whether the judge is the checkpoint with this manifest digest, as far as the judge's digest or name tells.

        It also is where both are one model of one server: `answers` is the server that the candidate answers through.
        """
        own = self.server.endpoint
        names = (own.model, own.reported or "")
        if candidate == self.checkpoint or any(candidate in name for name in names):
            return True
        if answers is None or address(answers.base_url).place != address(own.base_url).place:
            return False
        return answers.model == own.model or (own.reported is not None and answers.reported == own.reported)


@dataclass(frozen=True)
class Sitting:
    """A judge before one candidate: the rubrics it is examined in, and whether in comparing too.

    answers: the server that the candidate answers through, where it has one.
    """

    judging: Judging
    candidate: str
    rubrics: tuple[str, ...]
    pairwise: bool
    answers: Endpoint | None = None

    @property
    def is_self(self) -> bool:
        """Whether the judge is the candidate."""
        return self.judging.is_candidate(self.candidate, self.answers)

    def exam(self, progress: Advance | None = None) -> Exam | None:
        """The judge's exam; None where it may not judge this candidate at all. `progress` is told of each reply."""
        if self.is_self and not self.judging.allow_self:
            return None
        return self.judging.examine(self.rubrics, self.pairwise, progress)

    def refused(self, rubric: str) -> str | None:
        """Why the judge's verdicts on this candidate do not count under a rubric, or None when they do."""
        exam = self.exam()
        return SELF if exam is None else exam.reason(rubric)

    def ask(self, questions: Sequence[Question], progress: Advance | None) -> list[Opinion]:
        """The judge's opinions."""
        return opinions(self.judging.server, questions, self.judging.repeats, progress)

    def describe(self, rubrics: Sequence[str]) -> dict[str, Any]:
        """What is recorded of the judge. Its `digest` leaves out where it is served and how its exam went."""
        exam = self.exam()
        server, endpoint = self.judging.server, self.judging.server.endpoint
        depends = {
            "protocol": PROTOCOL,
            "model": endpoint.model,
            "reported": endpoint.reported,
            "form": server.form,
            "rubrics": {name: (RUBRICS | {PAIRWISE.name: PAIRWISE})[name].digest for name in rubrics},
            "repeats": self.judging.repeats,
            "max_new_tokens": server.max_new_tokens,
        }
        return {
            **depends,
            "digest": jsonio.digest(depends),
            "endpoint": endpoint.base_url,
            "self_judging": self.is_self,
            "secret": server.secret,
            "exam": exam.to_json(rubrics) if exam is not None else None,
        }
