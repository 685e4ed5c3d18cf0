"""K05-K07: a verdict of `gate` that was changed, signed by another, replayed beside another, or decided otherwise."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignmerge import jsonio
from alignmerge.auditor.record import save
from tests.faults.signed_merges import command

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "unit/policies/records.py")))
POLICY = """\
schema: alignmerge.policy/1
name: mine
summary: One rule.
rules: [{id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 0.05, min_items: 64}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Audits `anchor`, `good` and `bad`, keys `k` and `other`, and the signed verdicts `good.json` and `bad.json`."""
    (tmp_path / "p.yaml").write_text(POLICY)
    (tmp_path / "lax.yaml").write_text(POLICY.replace("0.05", "0.5"))
    for name, refusals in (("anchor", 300), ("good", 299), ("bad", 200)):
        save(r.audit({"refusal_rate": r.ones(refusals, 320)}, name=name), tmp_path / name)
    for key in ("k", "other"):
        assert command("keys", "new", tmp_path / key) == 0
    for name, code in (("good", 0), ("bad", 3)):
        given = ("--policy", tmp_path / "p.yaml", "--anchor", tmp_path / "anchor", "--key", tmp_path / "k")
        assert command("gate", tmp_path / name, *given, "-o", tmp_path / f"{name}.json") == code
    return tmp_path


def verified(place: Path, name: str = "good", *audits: str, key: str = "k", policy: str = "") -> int:
    more = [f"--audit={place / audit}" for audit in audits] + ([f"--policy={place / policy}"] if policy else [])
    return command("verify", place / f"{name}.json", "--key", place / f"{key}.pub", *more)


def test_an_untouched_verdict_holds_whatever_it_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (("good", "good: PASS"), ("bad", "bad: FAIL")):
        capsys.readouterr()
        assert verified(place, name, name, "anchor", policy="p.yaml") == 0
        out = capsys.readouterr().out
        assert said in out and "not decided again" not in out
        assert verified(place, name) == 0
        assert "was not decided again" in capsys.readouterr().out


def edits(text: str) -> Iterator[str]:
    value = json.loads(text)
    yield text.replace("PASSED", "FAILED")
    yield text.replace(value["subject"][0]["digest"]["sha256"], "0" * 64)
    yield text.replace("refusal-drop", "refusal-dr0p")
    yield text.replace(" ", "  ", 1) if " " in text else text + " "
    yield text.replace("{", '{"_type": "x", ', 1)
    yield text[:-20]


def test_K05_a_changed_verdict_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "good.json"
    text = path.read_text()
    for edited in edits(text):
        assert edited != text
        path.write_text(edited)
        assert verified(place) == 5
        assert "CHANGED" in capsys.readouterr().err
    path.write_text(text)
    assert verified(place) == 0


def test_K06_another_key_or_none_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(place, key="other") == 5
    assert "signed by another key" in capsys.readouterr().err
    (place / "good.intoto.jsonl").unlink()
    assert verified(place) == 5
    assert "good.intoto.jsonl: missing, so the verdict is not signed" in capsys.readouterr().err


def test_K07_a_signature_of_another_verdict_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "bad.intoto.jsonl").write_bytes((place / "good.intoto.jsonl").read_bytes())
    assert verified(place, "bad") == 5
    assert "bad.json: is not the verdict that was signed in bad.intoto.jsonl" in capsys.readouterr().err


def test_F20_another_policy_or_other_records_do_not_give_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(place, "good", "good", "anchor", policy="lax.yaml") == 5
    assert "not under policy mine" in capsys.readouterr().err
    assert verified(place, "good", "bad", "anchor", policy="p.yaml") == 4
    assert "rests on an audit of the candidate" in capsys.readouterr().err
    assert verified(place, "good", "good", "anchor") == 4
    assert "rests on policy mine" in capsys.readouterr().err
    items = place / "good" / "items.jsonl"
    items.write_bytes(items.read_bytes().replace(b'"value":0.0', b'"value":1.0', 1))
    assert verified(place, "good", "good", "anchor", policy="p.yaml") == 5
    assert "items.jsonl: not the items that audit.json names" in capsys.readouterr().err


def test_a_verdict_that_its_records_do_not_give_is_found_without_a_signature(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = jsonio.read(place / "bad.json")
    text = (place / "bad.json").read_text()
    [field] = [key for key in value["predicate"] if key.startswith("https://")]
    row = value["predicate"][field]["rules"][0]
    (place / "bad.json").write_text(text.replace(json.dumps(row["reason"]), json.dumps("all is well")))
    given = [f"--audit={place / name}" for name in ("bad", "anchor")]
    assert command("verify", place / "bad.json", f"--policy={place / 'p.yaml'}", *given) == 5
    assert "its audits and policy give FAIL, with another row for rule refusal-drop" in capsys.readouterr().err


def test_nothing_to_check_it_by_is_a_usage_error(place: Path) -> None:
    assert command("verify", place / "good.json") == 2
    assert command("verify", place / "good.json", "--rerun", "--key", place / "k.pub") == 2
    assert command("verify", place, "--policy", place / "p.yaml") == 2


def test_a_verdict_of_audits_alone_is_signed_off(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "person.yaml").write_text(
        POLICY + "required_evidence: [{id: officer, kind: sign_off, summary: A person signs., max_age_days: 30}]\n"
    )
    gate = ("gate", place / "good", "--policy", place / "person.yaml", "--anchor", place / "anchor")
    assert command(*gate, "--key", place / "k", "-o", place / "waits.json") == 4
    approve = ("approve", place / "waits.json", "--approver", "A. Officer", "--key", place / "other")
    for other in ("nobody", "refusal-drop"):  # no rule of that name; a rule that an approval could not excuse
        assert command(*approve, "--rule", other, "--ledger", place / "own") == 2
        assert f"wants no sign-off called '{other}'; known: officer" in capsys.readouterr().err
    assert command(*approve, "--rule", "officer", "--ledger", place / "own") == 0
    [signed] = place.glob("waits.officer.*")
    assert command(*gate, "--approval", signed, "--approver-key", place / "other.pub") == 0
    assert command(*gate, "--approval", signed, "--approver-key", place / "k.pub") == 5
    passed = (*gate, "--key", place / "k", "-o", place / "passed.json")
    assert command(*passed, "--approval", signed, "--approver-key", place / "other.pub") == 0
    again = ("verify", place / "passed.json", "--key", place / "k.pub", "--policy", place / "person.yaml")
    audits = (f"--audit={place / 'good'}", f"--audit={place / 'anchor'}")
    for key, code in (("other.pub", 0), ("k.pub", 5)):
        assert command(*again, *audits, "--approver-key", place / key) == code
    assert command(*approve, "--rule", "officer", "--ledger", place / "own") == 2
    bad = ("gate", place / "bad", *gate[2:])
    assert command(*bad, "--approval", signed, "--approver-key", place / "other.pub") == 3
    assert "is for 676f6f640000, not 626164000000" in capsys.readouterr().out
