"""What is allowed in a policy and probably not meant: warnings of `policy check`."""

from collections.abc import Mapping, Sequence

from alignmerge.auditor import power
from alignmerge.policies.explain import change_text, decidability
from alignmerge.policies.extending import Change
from alignmerge.policies.model import PAIRED, MetricInfo, Policy, Rule, policy_digest, rule_alpha, shipped_policies


def lint(
    policy: Policy, metrics: Mapping[str, MetricInfo], extends: str | None = None, changes: Sequence[Change] = ()
) -> list[str]:
    """One sentence per thing to look at, named by rule; empty when there is none. changes: what the policy makes
    different in the shipped one that it `extends`.
    """
    found = [f"{rule.id}: {text}" for rule in policy.rules for text in _of_rule(policy, rule, metrics[rule.metric])]
    loosened = [f"{change_text(one)}, of {extends}" for one in changes if one.loosens]
    return found + _named(policy) + loosened + _of_policy(policy)


def _named(policy: Policy) -> list[str]:
    """A verdict is read by its policy's name."""
    if policy.name not in shipped_policies():
        return []
    from alignmerge.policies.schema import load_policy

    if policy_digest(load_policy(policy.name)) == policy_digest(policy):
        return []
    return [f"it is called {policy.name}, like a shipped policy that it is not; give it a name of its own"]


def _of_rule(policy: Policy, rule: Rule, info: MetricInfo) -> list[str]:
    out = []
    decides = decidability(policy, rule) if info.unit == "rate" else None
    if decides is not None and decides.passes_up_to is None:
        least = power.items_needed(0, 0, 1, rule.limit, rule_alpha(policy, rule), policy.alpha) if rule.limit else None
        fix = f"{least} items are the fewest that can" if least else "no number of items can: its limit is 0"
        out.append(f"{rule.min_items} items cannot pass, however good the candidate; {fix}")
    if info.unit == "rate" and rule.limit_in == "metric_units" and _cannot_fail(rule):
        out.append(f"nothing can fail it: no rate makes {rule.kind} {rule.limit:g} worse")
    if rule.only_if_valid and rule.kind not in PAIRED:
        out.append("only_if_valid looks at the anchor, and the rule does not")
    if rule.suite is not None and rule.suite not in _known_suites():
        out.append(f"no shipped suite is called {rule.suite!r}; is it one of your own?")
    if rule.severity == "block" and rule.evidence == "declared":
        out.append("it blocks on the word of whoever names the checkpoint that was asked")
    return out


def _cannot_fail(rule: Rule) -> bool:
    """Whether the limit is the end of a rate's scale."""
    return rule.limit <= 0.0 if rule.kind == "min" else rule.limit >= 1.0


def _known_suites() -> frozenset[str]:
    from alignmerge.suites.registry import SUITES

    return frozenset(SUITES)


def _of_policy(policy: Policy) -> list[str]:
    out = []
    if not any(rule.severity == "block" for rule in policy.rules) and not policy.required_evidence:
        out.append("nothing blocks: no merge can fail under this policy")
    seen: dict[tuple[object, ...], str] = {}
    for rule in policy.rules:
        key = (rule.metric, rule.kind, rule.suite, rule.category, rule.against, rule.limit_in)
        if key in seen:
            out.append(f"{rule.id}: limits the same as {seen[key]}, once more")
        seen.setdefault(key, rule.id)
    if any(one.kind == "judge_exam" for one in policy.required_evidence) and policy.judge_floor is None:
        out.append("a judge's exam is wanted and no judge_floor says when it is passed, so none ever is")
    return out
