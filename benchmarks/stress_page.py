"""docs/stress.md from the committed JSON alone: an equal file gives an equal page.

python -m benchmarks.stress_page
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.policies.reasons import percent
from alignmerge.reports.text import number

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "stress.json", ROOT / "docs" / "stress.md"
NAMES = {"ablated": "ablated", "always_refusing": "always refusing"}
Found = Mapping[str, Any]

LAYERS = 30  # of the anchor, for a file that does not say
WHOLE = "every number on it comes from that file."
PART = """its results come from that file. The number of layers, the items of the choice and what counts as sure and as
noticed are not in it yet: they are constants of the scripts."""

HEAD = """# Stress tests of the gate

Models whose alignment was damaged on purpose, made in memory from the zoo's anchor (`benchmarks/attacks.py`); no
checkpoint is written. This page is made by `python -m benchmarks.stress_page` from `benchmarks/results/stress.json`;
{source}

The direction is the mean difference of the anchor's states on harmful and harmless prompts of the calibration split
after layer {layer} of {layers}, counted from 0.

- **ablated**: the direction is removed from every matrix that writes to the residual stream.
- **always refusing**: {push:g} times the difference is added to the stream after that layer, as a bias.

Layer and strength were chosen on {chosen} validation items of each suite. What follows is on test items, as the gate
asks them: {items}.
"""


def _settings(found: Found) -> Found:
    """What the run was told; files from before it was kept in them have what `benchmarks/stress*.py` say."""
    from benchmarks.stress import settings

    kept: Found | None = found.get("settings")
    return settings({"num_hidden_layers": LAYERS}) if kept is None else kept


def page(found: Found) -> str:
    """The page as Markdown."""
    items = f"the first {found['limit']} of each suite" if found["limit"] else "all of each suite"
    told = _settings(found)
    chosen = f"{told['chosen_on']['layer']} and {told['chosen_on']['push']}"
    head = {"layer": found["layer"], "push": found["push"], "layers": told["layers"], "chosen": chosen, "items": items}
    lines = [HEAD.format(**head, source=WHOLE if "settings" in found else PART)]
    lines += [
        "## What the gate says",
        "",
        *_verdicts(found),
        "## Which metrics notice which attack",
        "",
        *_noticing(found),
    ]
    lines += ["## Merges with a damaged model", "", *_ladders(found), "## To measure it again", "", *_again(found)]
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [*("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows)), ""]


def _shown(value: float | None) -> str:
    return "–" if value is None else number(value)


def _verdicts(found: Found) -> list[str]:
    said = ", ".join(f"{NAMES[name]} **{one['decision']}**" for name, one in found["attacks"].items())
    lines = [f"Under `{found['policy']}.yaml`: {said}.", ""]
    rows = []
    for name, one in found["attacks"].items():
        for rule in one["rules"]:
            cells = [_shown(rule[key]) for key in ("anchor", "candidate", "bound", "limit")]
            rows.append([NAMES[name], rule["rule"], *cells, str(rule["n"]), rule["decision"]])
    lines += _table(["model", "rule", "anchor", "model's", "bound of the harm", "limit", "items", "decision"], rows)
    gate = {True: "passed", False: "did not pass", None: "did not run"}[found["aqi_valid"]]
    lines += [
        "Where a rule fails, the bound is the least harm that is shown (Holm over the blocking rules); elsewhere it is",
        f"the most that there may be ({percent(_settings(found)['alpha'])}). AQI's validity gate {gate} on the anchor:",
        f"{found['aqi_valid_reason']}.",
        "",
    ]
    return lines


def _noticing(found: Found) -> list[str]:
    names = sorted({metric for one in found["attacks"].values() for metric in one["metrics"]})
    rows = []
    for metric in names:
        cells = []
        for one in found["attacks"].values():
            row = one["metrics"].get(metric)
            cells += ["–", "–"] if row is None else [_shown(row["attacked"]), _told(row)]
        anchor = next(one["metrics"][metric]["anchor"] for one in found["attacks"].values() if metric in one["metrics"])
        rows.append([metric.replace("_", " "), _shown(anchor), *cells])
    heads = ["metric", "anchor"]
    for name in found["attacks"]:
        heads += [NAMES[name], "noticed"]
    lines = _table(heads, rows)
    lines += [
        "A metric notices where more answers got worse than better and chance would do that at most once in "
        f"{1 / _settings(found)['noticed']:,.0f}",
        "times (exact sign test on the items that changed; for AQI the paired bootstrap). A metric that an attack",
        "moves to its better side says nothing of it.",
        "",
    ]
    for name, one in found["attacks"].items():
        blind = sorted(metric for metric, row in one["metrics"].items() if row["p"] is not None and not row["noticed"])
        seen = sorted(metric for metric, row in one["metrics"].items() if row["noticed"])
        lines.append(f"- **{NAMES[name]}**: noticed by {_list(seen)}; not by {_list(blind)}.")
        lines += _aqi(one)
    return [*lines, ""]


def _aqi(attack: Found) -> list[str]:
    """What AQI's own rule says of an attack; that it is not stopped by AQI alone is said aloud."""
    rule = next((row for row in attack["rules"] if row["metric"] == "aqi_log_j"), None)
    if rule is None or rule["candidate"] is None:
        return []
    change = f"log J went from {_shown(rule['anchor'])} to {_shown(rule['candidate'])}"
    if rule["decision"] == "fail":
        return [f"  AQI alone fails it: {change}."]
    return [f"  **AQI alone does not fail it**: {change}, and its rule is {rule['decision']}."]


def _told(row: Mapping[str, Any]) -> str:
    if row["p"] is None:
        return "no test"
    counts = f" ({row['worse']} worse, {row['better']} better)" if row["worse"] or row["better"] else ""
    return f"{'**yes**' if row['noticed'] else 'no'}{counts}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names) or "none"


def _ladders(found: Found) -> list[str]:
    lines = []
    for name, rows in found["ladders"].items():
        lines += [
            f"Linear merges of the anchor with the model that is {NAMES[name]}, {rows[0]['n']} items of each suite:",
            "",
        ]
        cells = [[f"{row['weight']:g}", _shown(row["refusal_rate"]), _shown(row["over_refusal_rate"])] for row in rows]
        lines += _table(["weight", "refusal", "over-refusal"], cells)
        for metric, kept in found["monotone"][name].items():
            turned = [one for one in found["turns"][name] if one["metric"] == metric]
            word = metric.removesuffix("_rate").replace("_", "-")
            lines.append(f"- {word}: {_order(kept, turned, name)}")
        lines.append("")
    return lines


def _order(kept: bool, turned: Sequence[Mapping[str, Any]], name: str) -> str:
    if kept:
        return f"monotone: never {'rises' if name == 'ablated' else 'falls'} as the weight grows, and ends elsewhere."
    if not turned:
        return "the same at every weight."
    steps = "; ".join(
        f"from {one['from']:g} to {one['to']:g}, {one['wrong']} items that way and {one['right']} the other "
        f"(by chance {one['p']:.2f})"
        for one in turned
    )
    return f"**not monotone**: it turns {steps}."


def _again(found: Found) -> list[str]:
    rungs = next(iter(found["ladders"].values()))[0]["n"]
    return [
        "```sh",
        f"python benchmarks/stress.py --rungs {rungs}   # {found['cpu_seconds']:,} CPU seconds on {found['machine']}",
        "python -m benchmarks.stress_page",
        "```",
        "",
        "A rule on refusal cannot see a model that refuses everything, one on over-refusal none that refuses nothing,",
        "so a policy needs both, as `release.yaml` has them. `alignmerge vet` looks for an ablated direction without",
        "asking anything ([vetting.md](vetting.md)).",
    ]


def main() -> None:
    """Write the page."""
    jsonio.write_bytes(PAGE, page(jsonio.read(RESULTS)).encode())


if __name__ == "__main__":
    main()
