"""Options that choose what answers: our own engine, a vLLM server of this machine, or any OpenAI-compatible server."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from alignmerge.errors import UsageError
from alignmerge.pipeline.choices import CONCURRENCY

Command = TypeVar("Command", bound=Callable[..., Any])

# Names are those of AuditPlan's fields.
_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["transformers", "vllm", "openai"]),
        default="transformers",
        show_default=True,
        help="transformers in this process, vLLM started for MODEL, or a server that is already there.",
    ),
    click.option("--base-url", metavar="URL", help="--engine openai: the server, up to and with /v1."),
    click.option("--model-name", metavar="N", help="--engine openai: what the server calls the model."),
    click.option("--key-env", metavar="VAR", help="--engine openai: the environment variable that holds its key."),
    click.option("--vllm-python", metavar="PYTHON", help="--engine vllm: the Python that has vLLM."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="How long a server may be silent before it is asked again [default: 120; vllm: 900].",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"--engine openai: requests at once, at most [default: {CONCURRENCY}].",
    ),
)

_BELONGS = {
    "base_url": ("openai",),
    "model_name": ("openai",),
    "key_env": ("openai",),
    "vllm_python": ("vllm",),
    "timeout": ("openai", "vllm"),
    "concurrency": ("openai",),
}


def engine_options(command: Command) -> Command:
    """The command with the options added; it is called with `engine` and what `_BELONGS` names.

    An option of another engine than the chosen one is a UsageError.
    """

    @functools.wraps(command)
    def called(*arguments: Any, **values: Any) -> Any:
        for name, engines in _BELONGS.items():
            if values[name] is not None and values["engine"] not in engines:
                named = " or ".join(engines)
                raise UsageError(f"--{name.replace('_', '-')}: belongs to --engine {named}; add that or leave it out")
        return command(*arguments, **values)

    wrapped: Any = called
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return cast(Command, wrapped)
