"""J11, J12: names and words of records reach the terminal as they are: no escape sequence, no markup of rich."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import click
import pytest
from click.testing import CliRunner

from alignmerge import cli, jsonio
from alignmerge.auditor.record import save
from alignmerge.merger.record import MergeRecord
from alignmerge.pipeline.comparing import Gated, Outcome
from alignmerge.pipeline.showing import Shown
from alignmerge.policies.verdict import from_statement
from tests.faults.signed_merges import command

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "unit/policies/records.py")))
ESCAPES = "\x1b[31m\x1b]8;;http://x\x07\x1b]52;c;eA==\x07"
MARKUP = "[/] [bold]x[/bold] [red"
POLICY = """\
schema: alignmerge.policy/1
name: mine
summary: One rule.
rules: [{id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 0.05, min_items: 64}]
"""


def shown_as(name: str) -> str:
    """What the terminal has to show of `name`."""
    return name.replace("\x1b", "\\x1b").replace("\x07", "\\x07")


def quiet(text: str) -> bool:
    """Whether `text` cannot drive a terminal."""
    return "\x1b" not in text and "\x07" not in text


@pytest.fixture
def gated(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with audits `anchor` and `bad`, of a checkpoint with the fixture's name, and who spent bad's drift."""
    for folder, refusals in (("anchor", 300), ("bad", 200)):
        save(r.audit({"refusal_rate": r.ones(refusals, 320)}, name=request.param), tmp_path / folder)
    cells = [{"contributor": request.param, "layer": 3, "module": "mlp", "share": 0.4}]
    jsonio.write(tmp_path / "bad" / "blame.json", {"finite": {"cells": cells}})
    (tmp_path / "p.yaml").write_text(POLICY)
    return tmp_path


def gate(folder: Path) -> int:
    given = ("--policy", folder / "p.yaml", "--anchor", folder / "anchor", "-o", folder / "verdict.json")
    return command("gate", folder / "bad", *given)


@pytest.mark.parametrize("gated", [ESCAPES, MARKUP], indirect=True, ids=["escapes", "markup"])
def test_J11_J12_gate_shows_hostile_names_as_they_are(gated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(gated) == 3
    out, err = capsys.readouterr()
    assert quiet(out + err)
    name = shown_as(jsonio.read(gated / "bad" / "audit.json")["name"])
    assert f"FAIL: {name} (" in out
    assert f"mostly expert {name}" in out


@pytest.mark.parametrize("gated", [ESCAPES, MARKUP], indirect=True, ids=["escapes", "markup"])
def test_J11_J12_the_table_of_a_comparison_shows_labels_as_they_are(
    gated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(gated) == 3
    verdict = from_statement(jsonio.read(gated / "verdict.json"))
    hostile = verdict.subject_name
    audit = r.audit({"refusal_rate": r.ones(200, 320)}, name=hostile)
    made = MergeRecord({}, (), {}, {}, (), audit.checkpoint, audit.checkpoint)
    merges = (Gated(hostile, audit, verdict, made, None), Gated(f"{hostile} 2", audit, None, made, gated / "model"))
    further = replace(verdict, policy_name=hostile)
    outcome = Outcome(audit, {f"expert {hostile}": audit}, merges, gated)
    capsys.readouterr()
    Shown(outcome, gated / "report.html", {hostile: [further]}).print()
    out = capsys.readouterr().out
    assert quiet(out)
    head, _, rest = out.partition("\n\n")
    # Cells are folded where they are too wide, so the column of names is put together again.
    cells = [line.split("│")[1].strip() for line in head.splitlines() if "│" in line]
    assert "".join(cells).replace(" ", "").count(shown_as(hostile).replace(" ", "")) == 3
    assert f"ungated: {shown_as(hostile)} 2" in rest
    assert f"under {shown_as(hostile)}: FAIL" in rest


@pytest.mark.parametrize("name", [ESCAPES, MARKUP], ids=["escapes", "markup"])
def test_J11_the_path_of_a_report_is_shown_as_it_is_and_opened_whole(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name.replace("/", "|")
    save(r.audit({"refusal_rate": r.ones(3, 4)}), folder)
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)  # it would start a browser
    for options in ([], ["--open"]):
        assert opened == []
        done = CliRunner().invoke(cli.cli, ["report", str(folder), *options], standalone_mode=False)
        assert done.exception is None
        assert done.stdout == shown_as(f"{folder}/report.html\n") and done.stderr == ""
    assert [unquote(urlsplit(link).path) for link in opened] == [f"{folder}/report.html"]
    assert urlsplit(opened[0]).scheme == "file" and quiet(opened[0])


def test_J11_an_index_is_opened_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)
    older = Path(__file__).parents[1] / "unit/reports/older"
    assert command("report", older, "--index", "-o", tmp_path / "runs.html", "--open") == 0
    assert opened == [(tmp_path / "runs.html").as_uri()]


def test_J11_errors_about_a_hostile_name_reach_the_terminal_without_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "\x1b[31m[/]\x1b]52;c;eA==\x07"
    folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["alignmerge", "report", str(folder)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    assert stopped.value.code not in (0, 1)
    assert quiet(out + err) and "[/]" in err
