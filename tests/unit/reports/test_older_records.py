"""Records of the first layout still render: older/ holds them byte for byte, and they are never written anew."""

import hashlib
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
    "verdict.json": ("waivers", "approvals", "lineage", "against", "category", "waived"),
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
