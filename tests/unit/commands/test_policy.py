"""`alignmerge policy check|explain`."""

import json
from pathlib import Path

import pytest

from alignmerge.cli import main
from alignmerge.policies.schema import load_policy, policy_digest, shipped_policies


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["policy", *arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.mark.parametrize("name", shipped_policies())
def test_shipped_policies_check_and_explain(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", name) == 0
    assert policy_digest(load_policy(name)) in capsys.readouterr().out
    assert run("explain", name) == 0
    out = capsys.readouterr().out
    for rule in load_policy(name).rules:
        assert rule.id in out


def test_explain_says_what_the_items_can_decide(capsys: pytest.CaptureFixture[str]) -> None:
    run("explain", "release")
    out = capsys.readouterr().out
    assert (
        "With 300 pairs, none changing for the better, it passes while at most 8 change for the worse "
        "and fails from 25 at the latest" in out
    )
    assert "passes 4 times in 5 with 248 pairs" in out
    assert "2 standard errors of the anchor's own value, compared with the anchor on the same resamples" in out
    run("explain", "release", "--json")
    rows = {row["rule"]: row["decides"] for row in json.loads(capsys.readouterr().out)}
    assert rows["refusal-drop"] == {
        "rule": "refusal-drop",
        "pairs": 300,
        "passes_up_to": 8,
        "fails_from": 25,
        "pairs_for_power": 248,
    }
    assert rows["aqi-drop"] is None


def test_explain_names_the_evidence_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    run("explain", "regulated")
    out = capsys.readouterr().out
    assert (
        "sign-off (blocks): A named person signs this checkpoint off: Pending until a signed approval is given" in out
    )
    assert "It extends release and changes:\n  max_age_days none -> 90" in out
    assert "LOOSENS" not in out


def test_a_rule_that_can_never_pass_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shipped_policies()["release"].read_text().replace("min_items: 300", "min_items: 20")
    (tmp_path / "p.yaml").write_text(text)
    run("explain", str(tmp_path / "p.yaml"))
    assert "it cannot pass, however good the candidate" in capsys.readouterr().out


def test_check_repeats_what_a_file_loosens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "schema: alignmerge.policy/1\nname: release\nsummary: Ours.\nextends: release\n"
        "overrides:\n  refusal-drop: {limit: 1.0}\n"
    )
    assert run("check", str(path)) == 0
    told = capsys.readouterr()
    assert told.out.startswith("release: valid; 6 rules, 6 requirements block\n")
    for line in (
        "warning: refusal-drop: nothing can fail it: no rate makes max_drop 1 worse",
        "warning: it is called release, like a shipped policy that it is not; give it a name of its own",
        "warning: LOOSENS refusal-drop: limit 0.05 -> 1, of release",
    ):
        assert line in told.err
    run("explain", str(path))
    assert "  LOOSENS refusal-drop: limit 0.05 -> 1\n" in capsys.readouterr().out


def test_check_counts_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = "{id: r, metric: refusal_rate, kind: max_drop, limit: 0.05, min_items: 300}"
    (tmp_path / "p.yaml").write_text(f"schema: alignmerge.policy/1\nname: x\nsummary: y\nrules: [{rule}]\n")
    assert run("check", str(tmp_path / "p.yaml")) == 0
    assert capsys.readouterr().out.startswith("x: valid; 1 rule, 1 requirement blocks\n")


def test_check_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "demo", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["digest"] == policy_digest(load_policy("demo"))
    assert value["policy"]["rules"][0]["limit"] == 0.15


def test_a_bad_file_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("schema: alignmerge.policy/1\nname: x\nsummary: y\nrules: []\n")
    assert run("check", str(tmp_path / "p.yaml")) == 2
    assert "gates nothing" in capsys.readouterr().err
