"""What becomes of older and newer records: older/ holds those of the first layout, and they are never written anew."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.auditor.record import record_digest
from alignmerge.errors import RecordError
from alignmerge.reports import flat, index, markdown
from alignmerge.reports.model import load_run
from alignmerge.reports.render import render

OLDER = Path(__file__).with_name("older")
# What those records are named by in verdicts and seals that were signed then.
GOLDEN = {
    "anchor": "dbcdf95fe404597d017f2da74e2a5b317dc61497e651508c0a325d89d6532743",
    "merge": "fba4ce50d223960c4ad815531bb04d579e42f94fc64bf9849e2465618afbb5dd",
}
LATER = {
    "run.json": ("version", "notes", "skills", "drift", "blame", "also"),
    "audits/merge/audit.json": ("graders", "detail"),
    "audits/merge/items.jsonl": ("note",),
    "verdict.json": ("waivers", "approvals", "lineage", "notes", "against", "category", "waived", "suite", "estimate"),
}


@pytest.mark.parametrize("name", LATER)
def test_the_golden_records_have_no_later_field(name: str) -> None:
    texts = (OLDER / name).read_text().splitlines() if name.endswith(".jsonl") else [(OLDER / name).read_text()]
    for text in texts:
        assert not set(LATER[name]) & keys(jsonio.loads(text, name))


def keys(value: Any) -> set[str]:
    """Every key at any depth."""
    if isinstance(value, dict):
        return set(value).union(*(keys(one) for one in value.values()))
    return set().union(*(keys(one) for one in value)) if isinstance(value, list) else set()


def test_older_records_render_in_every_form() -> None:
    run = load_run(OLDER)
    page = render(run)
    assert "The merge soup may not ship under policy demo (digest " in page
    for absent in ("toxicity", "judge", "blame"):
        assert f'id="{absent}"' not in page
    assert "Refused by the anchor, answered by the merge" in page and "Where the requests lie" not in page
    assert markdown.render(run).startswith("# An older run")
    assert flat.data(run)["entries"][1]["verdict"]["decision"] == "FAIL"
    assert "An older run" in index.render([(OLDER, run)], OLDER)


def test_their_digests_have_not_moved() -> None:
    run = load_run(OLDER)
    assert {name: record_digest(entry.audit) for name, entry in zip(GOLDEN, run.entries, strict=True)} == GOLDEN
    for name in GOLDEN:
        named: Any = jsonio.read(OLDER / f"audits/{name}/audit.json")
        items = (OLDER / f"audits/{name}/items.jsonl").read_bytes()
        assert hashlib.sha256(items).hexdigest() == named["items"]["sha256"]


@pytest.mark.parametrize("name", ["run.json", "audits/merge/audit.json"])
def test_another_schema_is_refused_by_name(name: str, tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "run")
    value: Any = jsonio.read(tmp_path / "run" / name)
    jsonio.write(tmp_path / "run" / name, {**value, "schema": value["schema"][:-1] + "9"})
    with pytest.raises(RecordError, match="schema"):
        load_run(tmp_path / "run")


def test_what_an_older_record_lacks_is_said_or_left_out() -> None:
    page = render(load_run(OLDER))
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "No record of this run states a drift" in words  # no drift
    assert re.search(r"Cause[^.]*: not measured in this run", words)  # no blame
    assert "waived by" not in words  # no waivers
    for section in ("toxicity", "judge", "blame"):
        assert f'id="{section}"' not in page


STATEMENT = "https://alignmerge.dev/verdict/v1"


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("run.json", (), "later"),
        ("run.json", ("entries", 0), "later"),
        ("audits/merge/audit.json", (), "later"),
        ("audits/merge/audit.json", ("metrics", 0), "later"),
        ("verdict.json", ("predicate", STATEMENT), "disagree"),
        ("verdict.json", ("predicate", STATEMENT, "rules", 0), "disagree"),
    ],
)
def test_a_field_of_a_newer_version_is_refused_where_it_could_decide(
    name: str, place: tuple[str | int, ...], said: str, tmp_path: Path
) -> None:
    run = with_field(tmp_path, name, place)
    with pytest.raises(RecordError, match=f"{Path(name).name}.*{said}"):
        load_run(run)


def test_a_merge_record_is_quoted_with_fields_of_a_newer_version(tmp_path: Path) -> None:
    assert "of a later version" in render(load_run(with_field(tmp_path, "merge.json", ())))


def test_a_verdict_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "run")
    value: Any = jsonio.read(OLDER / "verdict.json")
    value["predicate"] = {STATEMENT[:-1] + "9": value["predicate"][STATEMENT]}
    jsonio.write(tmp_path / "run" / "verdict.json", value)
    with pytest.raises(RecordError, match=re.escape(STATEMENT)):
        load_run(tmp_path / "run")


def with_field(folder: Path, name: str, place: tuple[str | int, ...]) -> Path:
    """A copy of the older run whose record `name` has one more field, at `place`."""
    shutil.copytree(OLDER, folder / "run")
    value: Any = jsonio.read(OLDER / name)
    inner = value
    for key in place:
        inner = inner[key]
    inner["later"] = "of a later version"
    jsonio.write(folder / "run" / name, value)
    return folder / "run"
