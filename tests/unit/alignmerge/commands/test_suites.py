"""`alignmerge suites` shows what the registry holds."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from alignmerge.cli import cli
from alignmerge.errors import UsageError
from alignmerge.suites.definition import ready
from alignmerge.suites.model import SPLITS, items_digest
from alignmerge.suites.registry import SUITES


def test_list_names_every_suite_with_its_sizes_and_digests() -> None:
    result = CliRunner().invoke(cli, ["suites", "list", "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert rows.keys() == SUITES.keys() | ready().keys() and not SUITES.keys() & ready().keys()
    assert all(rows[name]["needs_data"] for name in ready())
    for name, suite in SUITES.items():
        for split in SPLITS:
            assert rows[name]["items"][split] == len(suite.items(split))
            assert rows[name]["digests"][split] == items_digest(suite, suite.items(split))
    plain = CliRunner().invoke(cli, ["suites", "list"], catch_exceptions=False).output
    ours, others = plain.split("\n\nWith your data")
    assert [line.split()[0] for line in ours.splitlines()] == list(SUITES)
    assert [line.split()[0] for line in others.splitlines()[1:]] == list(ready())


@pytest.mark.parametrize("name", SUITES)
def test_show_prints_the_items_asked_for(name: str) -> None:
    arguments = ["suites", "show", name, "--split", "validation", "--items", "2"]
    first = SUITES[name].items("validation")[:2]
    plain = CliRunner().invoke(cli, arguments, catch_exceptions=False).output
    assert all(item.prompt in plain for item in first)
    shown = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False).output)
    assert [item["id"] for item in shown["first"]] == [item.id for item in first]


def test_unknown_suite_names_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["suites", "show", "refusl"])
    assert isinstance(result.exception, UsageError)
    assert "refusal" in str(result.exception)


def test_show_names_the_metrics_that_an_audit_would_hold(tmp_path: Path) -> None:
    row = {"prompt": "Is it safe?", "axiom": "a", "safety_label": "safe"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    made = ("--data", f"litmus_safe={tmp_path / 'rows.jsonl'}")
    for more in ((), made):
        plain = CliRunner().invoke(cli, ["suites", "show", "litmus_safe", *more], catch_exceptions=False).output
        assert "metrics: over_refusal_rate@litmus_safe, degeneration_rate" in plain
    shown = CliRunner().invoke(cli, ["suites", "show", "litmus_safe", "--json"], catch_exceptions=False).output
    assert json.loads(shown)["metrics"] == ["over_refusal_rate@litmus_safe", "degeneration_rate"]


@pytest.mark.parametrize("name", ["refusal", "gsm8k"])
def test_data_of_another_suite_is_refused(name: str) -> None:
    for key in ("mmlu", f"{name}.shots"):
        result = CliRunner().invoke(cli, ["suites", "show", name, "--data", f"{key}=nowhere.csv"])
        assert isinstance(result.exception, UsageError)
        assert name in str(result.exception)
