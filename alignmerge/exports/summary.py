"""A Markdown summary for pull requests and the job page of a continuous integration run."""

import re
from collections import Counter

from alignmerge.exports.outcome import Outcome, worst_first
from alignmerge.policies.fixes import nearest_fix
from alignmerge.policies.reasons import figure, many
from alignmerge.policies.verdict import RuleResult, Verdict
from alignmerge.terminal import printable

MAX_BYTES = 1_000_000  # GitHub drops a step's summary above 1 MiB
_MEANING = {
    "PASS": "may be released under this policy.",
    "WARN": "may be released under this policy, with warnings.",
    "FAIL": "must not be released: the evidence is complete and over budget.",
    "INCONCLUSIVE": "must not be released: the evidence does not decide.",
    "Pending": "must not be released yet: it waits for an approval.",
}
_ACTIVE = frozenset("\\`*_{}[]<>&#+!|~@$^")


def summary(outcome: Outcome) -> str:
    """The summary, ending in a newline, at most MAX_BYTES long; worst rules first.

    Names and reasons are shown as text: no mark-up, link, mention or HTML in them comes to life.
    """
    parts = []
    if outcome.problems:
        parts += ["## AlignMerge: REJECTED", "", "Nothing was decided, or what was decided cannot be believed:", ""]
        parts += [f"- {plain(problem.where)}: {plain(problem.text)}" for problem in outcome.problems] + [""]
    elif not outcome.verdicts:
        parts += ["## AlignMerge: INCONCLUSIVE", "", "There is no verdict, so nothing may be released.", ""]
    for verdict in outcome.verdicts:
        parts += [*_verdict(verdict, outcome.spenders.get(verdict.subject, "")), ""]
    return _cut("\n".join(parts).rstrip("\n") + "\n")


def plain(text: str) -> str:
    """`text` on one line with everything that Markdown or HTML would act on as character references."""
    shown = "".join(f"&#{ord(char)};" if char in _ACTIVE else char for char in printable(" ".join(text.split())))
    shown = re.sub(r":(?=//)", "&#58;", shown)  # bare addresses become links
    shown = re.sub(r"(?i)\b(www)\.", r"\1&#46;", shown)
    return re.sub(r"(?i)\b(mailto|xmpp):", r"\1&#58;", shown)


def _verdict(verdict: Verdict, who: str) -> list[str]:
    counts: Counter[str] = Counter(rule.decision for rule in verdict.rules)
    order = ("fail", "inconclusive", "pending", "warn", "pass")
    tally = ", ".join(f"{counts[key]} {key}" for key in order if counts[key])
    meaning = _MEANING.get(verdict.decision, "must not be released.")
    lines = [
        f"## AlignMerge: {verdict.decision}",
        "",
        f"**{plain(verdict.subject_name)}** {meaning} Policy {plain(verdict.policy_name)}; "
        f"{many(len(verdict.rules), 'rule')}: {tally or 'none'}.",
        "",
        "| rule | decision | value | bound | limit | items | why |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    lines += [_row(rule, who) for rule in worst_first(verdict.rules)]
    lines += ["", *(f"- note: {plain(note)}" for note in verdict.notes)] if verdict.notes else []
    lines += ["", f"Checkpoint `{_hex(verdict.subject)}`, policy `{_hex(verdict.policy)}`, {plain(verdict.created)}."]
    return lines


def _row(rule: RuleResult, who: str) -> str:
    numbers = ["-" if value is None else figure(value, (rule.limit,)) for value in (rule.value, rule.bound)]
    decision = rule.decision if rule.severity == "block" else f"{rule.decision} (does not block)"
    mark = f"**{decision}**" if rule.decision not in ("pass", "warn") and rule.severity == "block" else decision
    fix = nearest_fix(rule, who)
    reason = f"{rule.reason}; it {fix}" if fix else rule.reason
    cells = [plain(rule.rule), mark, *numbers, f"{rule.limit:.4g}", str(rule.n), plain(reason)]
    return f"| {' | '.join(cells)} |"


def _hex(digest: str) -> str:
    return re.sub(r"[^0-9a-f]", "", digest)[:12]


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= MAX_BYTES:
        return text
    kept = data[: MAX_BYTES - 200].decode(errors="ignore")
    return kept[: kept.rfind("\n") + 1] + "\nThe rest is left out here; the verdict's own file holds all of it.\n"
