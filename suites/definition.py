"""What a suite definition says: where its rows come from, which columns are what, and how answers are read.

A definition is a small YAML file (schema `alignmerge.suite/1`). The ready ones lie in suites/definitions/; they hold no
data. A revision or digest that was not checked is absent, and then named by the user.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from alignmerge import jsonio, yamlio
from alignmerge.errors import UsageError
from alignmerge.suites.model import NAME, Kind

SCHEMA = "alignmerge.suite/1"
COMMIT = re.compile(r"[0-9a-f]{40}")
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True)
class ScorerUse:
    """How answers are read: metric ids, what kind of items, and the reference keys that must be there."""

    metrics: tuple[str, ...]
    reference: tuple[str, ...] = ()
    kind: Kind = "generate"


SCORERS: dict[str, ScorerUse] = {
    "arithmetic": ScorerUse(("arithmetic_accuracy",), ("answer",)),
    "choices": ScorerUse(("choice_accuracy", "choice_accuracy_norm"), ("answer",), "likelihood"),
    "graders": ScorerUse(()),
    "gsm8k": ScorerUse(("strict_accuracy", "flexible_accuracy", "math_accuracy"), ("answer",)),
    "ifeval": ScorerUse(
        ("prompt_strict_rate", "prompt_loose_rate", "instruction_strict_rate", "instruction_loose_rate"),
        ("instructions", "arguments"),
    ),
    "instructions": ScorerUse(("instruction_following_rate",), ("constraints",)),
    "match": ScorerUse(("match_rate",), ("answer",)),
    "over_refusal": ScorerUse(("over_refusal_rate",)),
    "refusal": ScorerUse(("refusal_rate",)),
    "units": ScorerUse(("units_accuracy",), ("answer", "unit")),
}
# What `graded` may name. No other metric: rows that a suite of the user's own adds to a shipped suite's metric would
# water it down under every rule that reads it.
GRADED: tuple[str, ...] = (
    *("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack", "profanity_rate"),
    *("judged_harmless_rate", "judged_refusal_rate", "judged_over_refusal_rate", "judged_instruction_rate"),
    *("judged_honest_rate", "helpfulness_score", "pairwise_win_rate"),
)


@dataclass(frozen=True)
class Hub:
    """A data set on the hub. `revision` is a commit, or None while nobody has checked one: then the user names it."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    id: str
    split: str
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Choices:
    """Where a likelihood item's choices come from: columns, or (parse) the prompt.

    column: a column that holds the list (`choices.text` looks inside). columns: one column per choice, for rows that
    have no such list. parse: the options that the prompt itself lists, as `(A) text` or `- text` lines. fixed: by
    category, the answers of rows that list none. skip: categories that have no fixed answers. letters: the choices are
    "A", "B", ..., and the prompt's `{options}` lists their texts. labels: a column with the options' own labels, which
    the answer may name.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    column: str | None = None
    columns: list[str] = field(default_factory=list)
    parse: bool = False
    fixed: dict[str, list[str]] = field(default_factory=dict)
    skip: list[str] = field(default_factory=list)
    letters: bool = False
    labels: str | None = None


@dataclass(frozen=True)
class Columns:
    """Which column is what. `prompt` may be several names, of which a row has one. `a.0` looks inside a list.

    `category` may be "$file": the name of the row's file. `reference` maps a scorer's keys to columns.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    prompt: str | list[str]
    id: str | None = None
    category: str | None = None
    pair: str | None = None
    reference: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class About:
    """What the data is and under which terms, for people."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    home: str
    licence: str
    paper: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Definition:
    """One suite that is made from rows. `file` is relative to the definition; `prompt` may hold `{column}`s.

    `files` is the pattern of the names that are read in a folder; `rows` the key of the list in a .json object.
    `graded` are metrics that a classifier or judge fills.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    summary: str
    columns: Columns
    scorer: str
    max_new_tokens: int
    version: str = "1"
    about: About | None = None
    file: str | None = None
    sha256: str | None = None
    hub: Hub | None = None
    rows: str | None = None
    files: str | None = None
    where: dict[str, str | int | list[str]] = field(default_factory=dict)
    prompt: str | None = None
    choices: Choices | None = None
    shots: int = 0
    split: Literal["calibration", "validation", "test"] = "test"
    graded: list[str] = field(default_factory=list)
    harmful: bool = False
    ends: bool = False

    @property
    def use(self) -> ScorerUse:
        """How its answers are read."""
        return SCORERS[self.scorer]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The ids of its suite's metrics, as a policy names them."""
        own = (f"{metric}@{self.name}" for metric in self.use.metrics)
        return (*own, *self.graded, *(("degeneration_rate",) if self.use.kind == "generate" else ()))


def ready() -> dict[str, Path]:
    """Path of each definition that comes with AlignMerge, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "definitions").glob("*.yaml"))}


def load_definition(path: Path) -> Definition:
    """The definition in a YAML file.

    Raises:
        UsageError: not a valid definition; the message starts with `file:line`.
        StorageError: the file cannot be read.
    """
    from pydantic import TypeAdapter, ValidationError

    document = yamlio.load_document(path, UsageError)
    value: Any = document.value
    if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
        raise UsageError(f"{path}:1: key 'schema' is not {SCHEMA!r}")
    body = {key: part for key, part in value.items() if key != "schema"}
    try:
        found = TypeAdapter(Definition).validate_json(jsonio.canonical(body), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = tuple(part for part in first["loc"] if isinstance(part, str | int))
        raise UsageError(f"{document.where(place)}: {'.'.join(map(str, place))}: {first['msg']}") from None
    for key, fault in _faults(found):
        raise UsageError(f"{document.where((key,))}: {key}: {fault}")
    return found


def _faults(found: Definition) -> list[tuple[str, str]]:
    out = []
    if not NAME.fullmatch(found.name):
        out.append(("name", f"{found.name!r} is not 1 to 64 of a-z, 0-9, _ and -"))
    if found.scorer not in SCORERS:
        near = difflib.get_close_matches(found.scorer, SCORERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(SCORERS)}"
        out.append(("scorer", f"no scorer {found.scorer!r}; {hint}"))
        return out
    missing = [key for key in found.use.reference if key not in found.columns.reference]
    if missing:
        out.append(("columns", f"reference: the scorer {found.scorer} needs {', '.join(missing)}"))
    if (found.choices is not None) != (found.use.kind == "likelihood"):
        out.append(("scorer", "the scorer `choices` and the key `choices` go together"))
    for name in found.graded:
        base, mark, suite = name.partition("@")
        if base not in GRADED or (mark and suite != found.name):
            known = f"known: {', '.join(GRADED)}, each also as METRIC@{found.name}"
            out.append(("graded", f"{name!r} is no metric that a classifier or judge fills; {known}"))
    if found.choices and found.choices.parse == bool(found.choices.column or found.choices.columns):
        out.append(("choices", "give either column or columns, or parse: true"))
    if not 1 <= found.max_new_tokens <= 32_768:
        out.append(("max_new_tokens", f"{found.max_new_tokens} is not between 1 and 32768"))
    if not 0 <= found.shots <= 64:
        out.append(("shots", f"{found.shots} is not between 0 and 64"))
    if found.hub is not None and found.hub.revision is not None and not COMMIT.fullmatch(found.hub.revision):
        out.append(("hub", f"revision: {found.hub.revision!r} is not a commit in 40 hexadecimal digits; names move"))
    if found.sha256 is not None and (len(found.sha256) != 64 or set(found.sha256) - set("0123456789abcdef")):
        out.append(("sha256", "is not 64 hexadecimal digits"))
    return out
