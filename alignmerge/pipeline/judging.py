"""A judge as a run uses it: what the user names, opened and closed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge.errors import UsageError

if TYPE_CHECKING:
    from alignmerge.auditor.judge.exam import ExamLimits
    from alignmerge.auditor.judge.gold import Gold
    from alignmerge.auditor.judge.judging import Judging


@dataclass(frozen=True)
class JudgePlan:
    """What the user says of a judge. Only `url` is needed.

    model: its name on the server, where that offers several. key_env: the variable that holds the key. rubrics: only
    these. floor: what the lower bound of kappa must reach. gold: files of XSTest's completions that join the exam.
    gold_limit: our gold items per rubric. checkpoint: what the server runs, so that a judge of itself is noticed.
    secret: of an earlier record, to ask the same questions again. max_tokens: of a reply, at most. timeout: seconds the
    server may be silent; concurrency: requests at once, at most; None for the usual.
    """

    url: str
    model: str | None = None
    key_env: str | None = None
    rubrics: tuple[str, ...] = ()
    repeats: int = 1
    form: Any = "auto"
    floor: float | None = None
    gold: tuple[Path, ...] = ()
    gold_limit: int | None = None
    checkpoint: str | None = None
    allow_self: bool = False
    secret: str | None = None
    max_tokens: int | None = None
    timeout: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True)
class Checked:
    """What a plan comes to without its server: how the judge is asked, and what its exam needs."""

    rubrics: tuple[str, ...]
    limits: "ExamLimits"
    gold: "tuple[Gold, ...]"
    secret: str


def checked(plan: JudgePlan) -> Checked:
    """What the plan comes to; nothing is asked and no model is opened. To be called before any work is done.

    Raises:
        UsageError: the URL, the key's variable, a rubric, a limit or the secret is not usable, or a gold file is given
            twice or without its rubric. The message starts with the option.
        RecordError, StorageError: a gold file is not XSTest's.
    """
    from alignmerge.auditor.endpoint import Endpoint
    from alignmerge.auditor.judge.exam import ExamLimits
    from alignmerge.auditor.judge.fence import checked_secret, new_secret
    from alignmerge.auditor.judge.gold import joined
    from alignmerge.auditor.judge.judging import check_repeats, check_rubrics
    from alignmerge.auditor.judge.rubric import RUBRICS
    from alignmerge.pipeline.engines import limits_of

    rubrics = tuple(dict.fromkeys(plan.rubrics or RUBRICS))
    with _option("--rubric"):
        check_rubrics(rubrics)
    with _option("--repeats"):
        check_repeats(plan.repeats)
    with _option("--judge-floor"):
        limits = ExamLimits() if plan.floor is None else ExamLimits(kappa=plan.floor)
    with _option("--judge-secret"):
        secret = checked_secret(plan.secret) if plan.secret is not None else new_secret()
    with _option("--judge-timeout"):
        limits_of(plan.timeout, plan.concurrency)
    with _option("--judge"), Endpoint(plan.url, plan.model or "", plan.key_env):
        pass
    with _option("--judge-gold"):
        gold = joined(plan.gold)
        check_rubrics(rubrics, gold)
    return Checked(rubrics, limits, gold, secret)


@contextmanager
def _option(name: str) -> Iterator[None]:
    """Usage errors inside start with the option's name."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


@contextmanager
def opened(plan: JudgePlan) -> Iterator["Judging"]:
    """The judge, ready to be asked; its connections are closed at the end.

    Raises:
        UsageError: see `checked`; or the server offers several models and none was chosen.
        EndpointError: the server is not there, or names no model.
        RecordError, StorageError: a gold file is not XSTest's.
    """
    from alignmerge.auditor.endpoint import Endpoint
    from alignmerge.auditor.judge.ask import MAX_NEW_TOKENS, JudgeServer
    from alignmerge.auditor.judge.judging import Judging
    from alignmerge.pipeline.engines import limits_of

    parts = checked(plan)
    with _option("--judge-checkpoint"):
        digest = _digest(plan.checkpoint) if plan.checkpoint else None
    asked = limits_of(plan.timeout, plan.concurrency)
    with Endpoint(plan.url, plan.model or _only_model(plan), plan.key_env, asked) as endpoint:
        yield Judging(
            JudgeServer(endpoint, plan.form, parts.secret, plan.max_tokens or MAX_NEW_TOKENS),
            repeats=plan.repeats,
            rubrics=parts.rubrics,
            limits=parts.limits,
            more_gold=parts.gold,
            gold_limit=plan.gold_limit,
            checkpoint=digest,
            allow_self=plan.allow_self,
        )


def _only_model(plan: JudgePlan) -> str:
    from alignmerge.auditor.endpoint import Endpoint

    with Endpoint(plan.url, "", plan.key_env) as endpoint:
        names = endpoint.models()
    if len(names) != 1:
        raise UsageError(f"{plan.url}: offers {len(names)} models; choose one by --judge-model: {', '.join(names)}")
    return names[0]


def _digest(spec: str) -> str:
    from alignmerge.merger.checkpoint import open_checkpoint

    return open_checkpoint(spec).digest
