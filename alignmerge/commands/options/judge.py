"""Options that name a judge: a server that grades answers."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from alignmerge.errors import UsageError
from alignmerge.pipeline.judging import JudgePlan, checked

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "url": click.option("--judge", "url", metavar="URL", help="An OpenAI-compatible server that grades, up to /v1."),
    "model": click.option("--judge-model", "model_of_judge", metavar="NAME", help="What the server calls the judge."),
    "key_env": click.option("--judge-key-env", metavar="VAR", help="The environment variable that holds its key."),
    "rubrics": click.option(
        "--rubric", "rubrics", multiple=True, metavar="R", help="Only this rubric (may be repeated)."
    ),
    "repeats": click.option(
        "--repeats", type=click.IntRange(1, 25), default=1, show_default=True, help="How often each question is asked."
    ),
    "form": click.option(
        "--judge-form",
        type=click.Choice(["auto", "json_schema", "final_line"]),
        default="auto",
        show_default=True,
        help="How verdicts are asked for.",
    ),
    "floor": click.option("--judge-floor", type=float, help="What kappa's lower bound must reach [default: 0.6]."),
    "gold": click.option(
        "--judge-gold",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="XSTest's labelled completions, for the exam.",
    ),
    "gold_limit": click.option("--gold-limit", type=click.IntRange(min=1), help="Only N gold requests per rubric."),
    "checkpoint": click.option("--judge-checkpoint", metavar="MODEL", help="What the server runs, if it may be MODEL."),
    "allow_self": click.option("--allow-self-judge", is_flag=True, help="Let a model judge itself; records say so."),
    "max_tokens": click.option(
        "--judge-max-tokens", type=click.IntRange(min=1), metavar="N", help="Tokens of a reply, at most [default: 400]."
    ),
    "timeout": click.option(
        "--judge-timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="How long it may be silent before it is asked again [default: 120].",
    ),
    "concurrency": click.option(
        "--judge-concurrency", type=click.IntRange(min=1), metavar="N", help="Requests at once, at most [default: 8]."
    ),
    "secret": click.option(
        "--judge-secret", metavar="HEX", help="The secret of a record whose questions are asked again."
    ),
}
_NAMES = {
    "model": "model_of_judge",
    "key_env": "judge_key_env",
    "form": "judge_form",
    "floor": "judge_floor",
    "gold": "judge_gold",
    "checkpoint": "judge_checkpoint",
    "allow_self": "allow_self_judge",
    "secret": "judge_secret",
    "max_tokens": "judge_max_tokens",
    "timeout": "judge_timeout",
    "concurrency": "judge_concurrency",
}


def judge_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the options added; it is called with `judging`, a JudgePlan, or None without --judge."""

    @functools.wraps(command)
    def called(*arguments: Any, **values: Any) -> Any:
        given = {field: values.pop(_NAMES.get(field, field)) for field in _OPTIONS}
        if given["url"] is not None:
            plan = JudgePlan(**given)
            checked(plan)  # a wrong option ends the command before it has loaded or asked anything
            return command(*arguments, judging=plan, **values)
        stray = next((field for field, value in given.items() if value != _DEFAULTS.get(field)), None)
        if stray is not None:
            raise UsageError(f"an option of the judge ({stray.replace('_', ' ')}) was given without --judge URL")
        return command(*arguments, judging=None, **values)

    wrapped: Callable[..., Any] = called
    for option in reversed(_OPTIONS.values()):
        wrapped = option(wrapped)
    return wrapped


_DEFAULTS: dict[str, Any] = {"rubrics": (), "gold": (), "repeats": 1, "form": "auto", "allow_self": False}
