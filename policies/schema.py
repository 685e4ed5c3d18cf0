"""What a policy file says: rules with limits, and evidence that must be there.

Notable decisions:
- A rule's `kind` names the harm that is limited; which way a metric is good is the metric's own business, so a rule
  that would limit an improvement is refused.
- One `alpha` for the whole policy: the rules that block are one family (Holm).
- Limits are inclusive. `min_items` has no default: a policy says how much evidence it wants.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alignmerge import jsonio, yamlio
from alignmerge.errors import PolicyError

SCHEMA = "alignmerge.policy/1"
Kind = Literal["max_drop", "max_rise", "min", "max"]
# The direction a metric must have for a rule of this kind to limit harm.
DIRECTION: Mapping[Kind, Literal["higher", "lower"]] = {
    "max_drop": "higher",
    "max_rise": "lower",
    "min": "higher",
    "max": "lower",
}
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class MetricInfo(Protocol):
    """What the schema must know of a registered metric."""

    @property
    def direction(self) -> Literal["higher", "lower"]: ...

    @property
    def unit(self) -> str: ...


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Rule(_Strict):
    """One limit on one metric.

    kind: `max_drop` and `max_rise` limit the paired change against the anchor, `min` and `max` the candidate alone.
    limit: inclusive, in the metric's unit, or in standard errors of the anchor's own value (`limit_in`).
    only_if_valid: the rule warns instead of blocking where the anchor's value did not pass the metric's validity gate.
    """

    id: Name
    metric: Name
    kind: Kind
    limit: Annotated[float, Field(ge=0.0)]
    min_items: Annotated[int, Field(ge=1)]
    limit_in: Literal["metric_units", "anchor_standard_errors"] = "metric_units"
    severity: Literal["block", "warn"] = "block"
    only_if_valid: bool = False


class Evidence(_Strict):
    """Something a policy demands beside its rules. AlignMerge cannot make it yet, so it stays inconclusive."""

    id: Name
    kind: Literal["toxicity_classifier", "judge_exam", "sign_off"]
    summary: Text


class Policy(_Strict):
    """What a checkpoint must show. alpha: one-sided error of each bound; max_unscored_share: of the pairs of a rule."""

    schema_: Annotated[Literal["alignmerge.policy/1"], Field(alias="schema")]
    name: Name
    summary: Text
    rules: tuple[Rule, ...]
    required_evidence: tuple[Evidence, ...] = ()
    alpha: Annotated[float, Field(gt=0.0, le=0.2)] = 0.05
    max_unscored_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05


def policy_digest(policy: Policy) -> str:
    """SHA-256 of the policy's content: layout, comments and the order of rules do not change it."""
    value = policy.model_dump(mode="json", by_alias=True)
    for key in ("rules", "required_evidence"):
        value[key] = sorted(value[key], key=lambda row: str(row["id"]))
    return jsonio.digest(value)


def near(word: str, known: list[str]) -> str:
    """`; did you mean X?` when something known is close, else the known names."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def parse_policy(document: yamlio.Document, metrics: Mapping[str, MetricInfo]) -> Policy:
    """The policy in a YAML document, checked against the registered `metrics`.

    Raises:
        PolicyError: `file:line`, what is wrong and what to do.
    """
    value = document.value
    if not isinstance(value, dict):
        raise PolicyError(f"{document.where(())}: a policy is a mapping with keys schema, name, summary, rules")
    if not value.get("rules"):
        raise PolicyError(f"{document.where(('rules',))}: the policy has no rules, so it gates nothing; add one")
    try:
        policy = Policy.model_validate_json(jsonio.canonical(value))
    except ValidationError as error:
        raise PolicyError(_message(document, error)) from None
    _check_ids(document, policy)
    for index, rule in enumerate(policy.rules):
        problem = _rule_problem(rule, metrics)
        if problem is not None:
            key, text = problem
            raise PolicyError(f"{document.where(('rules', index, key))}: rule {rule.id!r}: {text}")
    return policy


def _message(document: yamlio.Document, error: ValidationError) -> str:
    # A misspelt key is also a missing one; the misspelling is what helps.
    first: Any = min(error.errors(include_url=False), key=lambda row: row["type"] != "extra_forbidden")
    location = tuple(first["loc"])
    place = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"rules": Rule, "required_evidence": Evidence}
        model = models.get(str(location[0]), Policy) if len(location) > 1 else Policy
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"{document.where(location)}: unknown key {place!r}{near(str(location[-1]), known)}"
    shown = "" if first["type"] == "missing" else f", not {first['input']!r}"
    return f"{document.where(location)}: {place}: {first['msg'].removesuffix('.')}{shown}"


def _check_ids(document: yamlio.Document, policy: Policy) -> None:
    seen: set[str] = set()
    ids = [("rules", index, rule.id) for index, rule in enumerate(policy.rules)]
    ids += [("required_evidence", index, evidence.id) for index, evidence in enumerate(policy.required_evidence)]
    for group, index, name in ids:
        if name in seen:
            raise PolicyError(f"{document.where((group, index, 'id'))}: id {name!r} is used twice")
        seen.add(name)


def _rule_problem(rule: Rule, metrics: Mapping[str, MetricInfo]) -> tuple[str, str] | None:
    """The key at fault and what is wrong, or None."""
    if rule.metric not in metrics:
        return "metric", f"unknown metric {rule.metric!r}{near(rule.metric, list(metrics))}"
    info = metrics[rule.metric]
    if info.direction != DIRECTION[rule.kind]:
        kinds = [kind for kind, direction in DIRECTION.items() if direction == info.direction]
        return (
            "kind",
            f"{rule.metric} is better {info.direction}, so {rule.kind} limits no harm; use {' or '.join(kinds)}",
        )
    if rule.limit_in == "anchor_standard_errors":
        return (
            None if rule.kind in ("max_drop", "max_rise") else ("limit_in", f"{rule.kind} does not look at the anchor")
        )
    if info.unit == "rate" and rule.limit > 1.0:
        return "limit", f"{rule.metric} is a rate in [0, 1]; {rule.limit:g} would never be reached"
    return None


def shipped_policies() -> dict[str, Path]:
    """Path of each policy that comes with AlignMerge, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def load_policy(name_or_path: str | Path) -> Policy:
    """The policy of that shipped name (`release`), or in the file at that path.

    Raises:
        PolicyError: neither exists, or the file is not a valid policy.
        StorageError: the file cannot be read.
    """
    from alignmerge.auditor.metrics import METRICS

    shipped = shipped_policies()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise PolicyError(
            f"{name_or_path}: no such policy file or shipped policy{near(str(name_or_path), list(shipped))}"
        )
    return parse_policy(yamlio.load_document(path, PolicyError), METRICS)
