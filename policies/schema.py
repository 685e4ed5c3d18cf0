"""Policy files: read, checked line by line, and resolved into a `Policy` that needs no other file.

A file may say more than a `Policy` holds: `extends` and `overrides` (extending.py), and in a rule `absolute` and
`categories`, which stand for further rules. `parse_policy` writes all of it out.
"""

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from alignmerge import jsonio, yamlio
from alignmerge.errors import PolicyError
from alignmerge.policies.extending import Change, Override, changes, extended
from alignmerge.policies.model import (
    DIRECTION,
    PAIRED,
    SCHEMA,
    Count,
    Days,
    Error,
    Evidence,
    Kind,
    Limit,
    MetricInfo,
    Name,
    Policy,
    Rule,
    Strict,
    Text,
    policy_digest,
    policy_json,
    rule_alpha,
    shipped_policies,
)
from alignmerge.policies.registered import REGISTERED

__all__ = [
    "DIRECTION", "PAIRED", "SCHEMA", "Change", "Evidence", "Kind", "MetricInfo", "Policy", "Read", "Rule",
    "load_policy", "near", "parse_policy", "policy_digest", "policy_json", "read_policy", "rule_alpha",
    "shipped_policies",
]  # fmt: skip

_SETTINGS = ("alpha", "max_unscored_share", "max_age_days", "max_waiver_days", "judge_floor")


class CategoryBudget(Strict):
    """The same change, limited for one category of the items by itself."""

    category: Annotated[str, Field(min_length=1, max_length=100)]
    limit: Limit
    min_items: Count


class RuleEntry(Rule):
    """A rule as a file has it. absolute: what the candidate's own value must at least be (a metric that is better
    higher) or may at most be. categories: budgets of single categories.
    """

    absolute: Limit | None = None
    categories: tuple[CategoryBudget, ...] = ()


class PolicyFile(Strict):
    """A policy file. extends: a shipped policy whose rules hold too; overrides: what is different in them, by id."""

    schema_: Annotated[str, Field(alias="schema", pattern=f"^{SCHEMA}$")]
    name: Name
    summary: Text
    extends: Name | None = None
    overrides: Mapping[Name, Override] = Field(default_factory=dict)
    rules: tuple[RuleEntry, ...] = ()
    required_evidence: tuple[Evidence, ...] = ()
    alpha: Error | None = None
    max_unscored_share: Annotated[float, Field(ge=0.0, le=0.5)] | None = None
    max_age_days: Days | None = None
    max_waiver_days: Annotated[int, Field(ge=0, le=365)] | None = None
    judge_floor: Annotated[float, Field(ge=0.0, le=1.0)] | None = None


@dataclass(frozen=True)
class Read:
    """A policy as read from a file. changes: what it makes different in the shipped policy that it extends."""

    policy: Policy
    extends: str | None = None
    changes: tuple[Change, ...] = ()


def near(word: str, known: list[str]) -> str:
    """`; did you mean X?` when something known is close, else the known names."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def parse_policy(document: yamlio.Document, metrics: Mapping[str, MetricInfo]) -> Policy:
    """The policy in a YAML document, checked against the registered `metrics`.

    Raises:
        PolicyError: `file:line`, what is wrong and what to do.
    """
    return _read(document, metrics, ()).policy


def _read(document: yamlio.Document, metrics: Mapping[str, MetricInfo], seen: tuple[str, ...]) -> Read:
    value = document.value
    if not isinstance(value, dict):
        raise PolicyError(f"{document.where(())}: a policy is a mapping with keys schema, name, summary, rules")
    if not value.get("rules") and not value.get("extends"):
        raise PolicyError(f"{document.where(('rules',))}: the policy has no rules, so it gates nothing; add one")
    try:
        file = PolicyFile.model_validate_json(jsonio.canonical(value))
    except ValidationError as error:
        raise PolicyError(_message(document, error)) from None
    base = _base(document, file, metrics, seen)
    _check_overrides(document, file, base)
    rules = [rule for entry in file.rules for rule in _expanded(entry)]
    _check_ids(document, file, base)
    settings = {key: getattr(file, key) for key in _SETTINGS if getattr(file, key) is not None}
    own: dict[str, Any] = {"schema": SCHEMA, "name": file.name, "summary": file.summary, **settings}
    policy = extended(base, file.overrides, tuple(rules), file.required_evidence, own)
    _check_rules(document, file, policy, metrics)
    return Read(policy, file.extends, changes(base, policy) if base is not None else ())


def _base(
    document: yamlio.Document, file: PolicyFile, metrics: Mapping[str, MetricInfo], seen: tuple[str, ...]
) -> Policy | None:
    if file.extends is None:
        return None
    shipped, place = shipped_policies(), document.where(("extends",))
    if file.extends in seen:
        raise PolicyError(f"{place}: extends goes round in a circle: {' -> '.join((*seen, file.extends))}")
    if file.extends not in shipped:
        raise PolicyError(f"{place}: no shipped policy {file.extends!r}{near(file.extends, list(shipped))}")
    path = shipped[file.extends]
    return _read(yamlio.load_document(path, PolicyError), metrics, (*seen, file.extends)).policy


def _expanded(entry: RuleEntry) -> Iterator[Rule]:
    """The rules that an entry stands for: itself, its absolute limit, its categories."""
    rule = Rule(**entry.model_dump(exclude={"absolute", "categories"}))
    yield rule
    if entry.absolute is not None:
        kind: Kind = "min" if DIRECTION[entry.kind] == "higher" else "max"
        yield rule.model_copy(
            update={
                "id": f"{entry.id}.absolute",
                "kind": kind,
                "limit": entry.absolute,
                "limit_in": "metric_units",
                "against": "anchor",
                "only_if_valid": False,
            }
        )
    for one in entry.categories:
        yield rule.model_copy(update={"id": f"{entry.id}.{_slug(one.category)}", **one.model_dump()})


def _slug(category: str) -> str:
    """A category's part of a rule's id. Where letters are lost, the beginning of its SHA-256 tells it from others."""
    slug = re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")
    if slug and category.isascii():
        return slug
    return "-".join(part for part in (slug, hashlib.sha256(category.encode()).hexdigest()[:8]) if part)


def _message(document: yamlio.Document, error: ValidationError) -> str:
    # A misspelt key is also a missing one; the misspelling is what helps.
    first: Any = min(error.errors(include_url=False), key=lambda row: row["type"] != "extra_forbidden")
    location = tuple(part for part in first["loc"] if part != "[key]")
    place = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in _model_at(location).model_fields.items()]
        return f"{document.where(location)}: unknown key {place!r}{near(str(location[-1]), known)}"
    shown = "" if first["type"] == "missing" else f", not {first['input']!r}"
    return f"{document.where(location)}: {place}: {first['msg'].removesuffix('.')}{shown}"


def _model_at(location: tuple[str | int, ...]) -> type[BaseModel]:
    if len(location) == 1:
        return PolicyFile
    if location[0] == "rules":
        return CategoryBudget if len(location) > 3 else RuleEntry
    models: dict[str, type[BaseModel]] = {"required_evidence": Evidence, "overrides": Override}
    return models.get(str(location[0]), PolicyFile)


def _check_overrides(document: yamlio.Document, file: PolicyFile, base: Policy | None) -> None:
    known = [] if base is None else [rule.id for rule in base.rules]
    for name, override in file.overrides.items():
        place = document.where(("overrides", name))
        if base is None:
            raise PolicyError(f"{place}: overrides change the rules of another policy; name it under extends")
        if name not in known:
            raise PolicyError(f"{place}: {file.extends} has no rule {name!r}{near(name, known)}")
        if not override.model_fields_set:
            raise PolicyError(f"{place}: overrides nothing of {name!r}; take it out, or say what is different")


def _check_ids(document: yamlio.Document, file: PolicyFile, base: Policy | None) -> None:
    taken: dict[str, str] = {}
    old = [] if base is None else [rule.id for rule in base.rules] + [one.id for one in base.required_evidence]
    for name in old:
        taken[name] = f"a rule or evidence of {file.extends}; change that one under overrides"
    ids = [("rules", index, rule.id) for index, entry in enumerate(file.rules) for rule in _expanded(entry)]
    ids += [("required_evidence", index, evidence.id) for index, evidence in enumerate(file.required_evidence)]
    for group, index, name in ids:
        place = document.where((group, index, "id"))
        if name in taken:
            raise PolicyError(f"{place}: id {name!r} is {taken[name]}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name):
            raise PolicyError(f"{place}: {name!r}, which this rule stands for, is no id of at most 64 characters")
        taken[name] = "used twice"


def _check_rules(
    document: yamlio.Document, file: PolicyFile, policy: Policy, metrics: Mapping[str, MetricInfo]
) -> None:
    places: dict[str, yamlio.Location] = {name: ("overrides", name) for name in file.overrides}
    for index, entry in enumerate(file.rules):
        places |= {rule.id: ("rules", index) for rule in _expanded(entry)}
    for rule in policy.rules:
        problem = rule_problem(policy, rule, metrics)
        if problem is not None:
            key, text = problem
            place = document.where((*places.get(rule.id, ()), key))
            raise PolicyError(f"{place}: rule {rule.id!r}: {text}")


def rule_problem(policy: Policy, rule: Rule, metrics: Mapping[str, MetricInfo]) -> tuple[str, str] | None:
    """The key at fault and what is wrong, or None."""
    if rule.metric not in metrics:
        return "metric", f"unknown metric {rule.metric!r}{near(rule.metric, list(metrics))}"
    info = metrics[rule.metric]
    if info.direction != DIRECTION[rule.kind]:
        kinds = [kind for kind, direction in DIRECTION.items() if direction == info.direction]
        wanted = f"use {' or '.join(kinds)}"
        return "kind", f"{rule.metric} is better {info.direction}, so {rule.kind} limits no harm; {wanted}"
    if rule.bound == "estimate" and (rule.severity == "block" or rule.alpha is not None):
        what = "has no alpha" if rule.alpha is not None else "proves nothing, so such a rule may only warn"
        return "bound", f"an estimate {what}; use one_sided, or take {'alpha' if rule.alpha else 'block'} out"
    if str(getattr(info, "grader", None) or "").startswith("judge") and policy.judge_floor is None:
        return "metric", f"{rule.metric} is read by a judge; add judge_floor (0.6, say) to the policy"
    return _comparison_problem(rule, info)


def _comparison_problem(rule: Rule, info: MetricInfo) -> tuple[str, str] | None:
    if rule.kind not in PAIRED:
        if rule.limit_in != "metric_units":
            return "limit_in", f"{rule.kind} does not look at the anchor"
        if rule.against != "anchor":
            return "against", f"{rule.kind} compares with nothing; take `against` out or use max_drop or max_rise"
    if rule.limit_in == "anchor_standard_errors":
        if rule.against != "anchor":
            return "limit_in", f"the anchor's standard errors say nothing of the {rule.against.replace('_', ' ')}"
    elif info.unit == "rate" and rule.limit > 1.0:
        return "limit", f"{rule.metric} is a rate in [0, 1]; {rule.limit:g} would never be reached"
    if rule.category is not None and getattr(info, "level", "item") == "set":
        return "category", f"{rule.metric} is one number for a whole set and has no categories"
    return None


def read_policy(name_or_path: str | Path) -> Read:
    """The policy of that shipped name (`release`), or in the file at that path, with what it extends.

    Raises:
        PolicyError: neither exists, or the file is not a valid policy.
        StorageError: the file cannot be read.
    """
    shipped = shipped_policies()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise PolicyError(
            f"{name_or_path}: no such policy file or shipped policy{near(str(name_or_path), list(shipped))}"
        )
    seen = (path.stem,) if path in shipped.values() else ()
    return _read(yamlio.load_document(path, PolicyError), REGISTERED, seen)


def load_policy(name_or_path: str | Path) -> Policy:
    """The policy alone; see `read_policy`."""
    return read_policy(name_or_path).policy
