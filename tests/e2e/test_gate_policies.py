"""The gate's story through the real command line, on synthetic records: pass, over budget, stale, waived, expired."""

import json
import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.auditor.record import save
from alignmerge.cli import main
from tests.valid_exports import junit_problems, sarif_problems, summary_problems

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "unit/policies/records.py")))
POLICY = """\
schema: alignmerge.policy/1
name: mine
summary: One rule, of young audits.
max_age_days: 30
rules: [{id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 0.05, min_items: 64}]
"""
NOW = datetime.now(UTC)
BAD = b"bad".hex().ljust(64, "0")


def day(days: int) -> str:
    return (NOW + timedelta(days=days)).date().isoformat()


def record(folder: Path, name: str, refusals: int, days: int = 0) -> str:
    made = (NOW + timedelta(days=days)).isoformat(timespec="seconds")
    save(r.audit({"refusal_rate": r.ones(refusals, 320)}, name=name, created=made), folder / name)
    return str(folder / name)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(POLICY)
    record(tmp_path, "anchor", 300)
    record(tmp_path, "good", 299)
    record(tmp_path, "bad", 200)
    record(tmp_path, "old", 299, days=-40)
    return tmp_path


def gate(place: Path, name: str, *extra: str) -> int:
    """The exit code of the gate, whose files for other tools are valid and say that code, however it ended."""
    told = {kind: place / f"told.{kind}" for kind in ("junit", "sarif", "summary")}
    for path in told.values():
        path.unlink(missing_ok=True)
    files = [f"--{kind}={path}" for kind, path in told.items() if f"--{kind}" not in extra]
    where = [str(place / name), "--policy", str(place / "p.yaml"), "--anchor", str(place / "anchor")]
    with pytest.raises(SystemExit) as exit_:
        main(["gate", *where, *extra, *files])
    code = exit_.value.code
    assert isinstance(code, int)
    assert junit_problems(told["junit"].read_text()) == []
    assert sarif_problems(told["sarif"].read_text()) == [[], []]
    assert json.loads(told["sarif"].read_text())["runs"][0]["invocations"][0]["exitCode"] == code
    if "--summary" not in extra:
        assert summary_problems(told["summary"].read_text()) == []
    return code


def waivers(place: Path, **changes: str) -> str:
    fields = {
        "rule": "refusal-drop", "subject": BAD, "reason": "A demonstration.", "approver": "R. Meyer",
        "created": day(-3), "expires": day(3),
    }  # fmt: skip
    rows = "".join(f"    {key}: {value!r}\n" for key, value in (fields | changes).items())
    path = place / "waivers.yaml"
    path.write_text(f"schema: alignmerge.waivers/1\nwaivers:\n  -\n{rows}")
    return str(path)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("good", 0, "PASS: good ("),
        ("bad", 3, "; it is over by 0.263"),
        ("old", 4, "the audit of the candidate is 40 days old; the policy takes at most 30; audit again"),
    ],
)
def test_a_good_merge_one_over_budget_and_a_stale_audit(
    place: Path, name: str, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(place, name) == code
    assert text in capsys.readouterr().out


def test_a_waiver_makes_a_failure_a_warning_until_it_expires(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(place, "bad", "--waivers", waivers(place)) == 0
    out = capsys.readouterr().out
    assert f"waived by R. Meyer (not verified) until {day(3)} (A demonstration)" in out
    assert "1 rule: 1 warn, 1 waived" in out
    assert gate(place, "bad", "--waivers", waivers(place, expires=day(-1))) == 3
    assert f"the waiver of R. Meyer does not hold: it expired on {day(-1)}" in capsys.readouterr().out
    assert gate(place, "old", "--waivers", waivers(place, subject=b"old".hex().ljust(64, "0"))) == 4
    assert "no waiver stands in for evidence" in capsys.readouterr().out
    assert gate(place, "good", "--waivers", waivers(place)) == 0
    assert "warning: waiver of refusal-drop by R. Meyer" in capsys.readouterr().out
    assert gate(place, "bad", "--waivers", waivers(place, expires="soon")) == 2
    assert "waivers.yaml:" in capsys.readouterr().err


def test_the_blame_beside_a_merge_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells: list[dict[str, Any]] = [
        {
            "contributor": "arithmetic",
            "layer": layer,
            "module": "mlp.up_proj",
            "share": 0.1 if 12 <= layer <= 18 else 0.01,
        }
        for layer in range(30)
    ] + [{"contributor": "units", "layer": 3, "module": "mlp.up_proj", "share": 0.1}]
    (place / "bad" / "blame.json").write_text(json.dumps({"finite": {"cells": cells}, "linear": {}, "experts": {}}))
    assert gate(place, "bad", "--summary", str(place / "summary.md")) == 3
    said = "; it is over by 0.263, mostly expert arithmetic (most of it in layers 12-1"
    assert said in capsys.readouterr().out
    assert said in (place / "summary.md").read_text()
