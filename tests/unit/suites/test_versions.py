"""A suite's version names what its items and their reading depend on, and stays what it was in stored records."""

from pathlib import Path

import pytest

from alignmerge.suites.registry import get_suite

HEAD = "schema: alignmerge.suite/1\nname: mine\nsummary: Mine.\nfile: rows.jsonl\nmax_new_tokens: 8\n"
BODY = HEAD + "columns: {prompt: question, reference: {answer: answer}}\n"
ROWS = '{"question": "2 + 2?", "answer": "#### 4"}\n'


def version(folder: Path, text: str) -> str:
    (folder / "rows.jsonl").write_text(ROWS)
    (folder / "mine.yaml").write_text(text)
    return get_suite(str(folder / "mine.yaml")).version


@pytest.mark.parametrize("scorer", ["match", "gsm8k"])
def test_what_changes_a_metric_changes_the_version(tmp_path: Path, scorer: str) -> None:
    body = BODY + f"scorer: {scorer}\n"
    changed = ["", "ends: true\n", "prompt: 'Q: {prompt}'\n", "graded: [toxicity]\n"]
    assert len({version(tmp_path, body + more) for more in changed}) == len(changed)


@pytest.mark.parametrize(
    ("body", "golden"),
    [("scorer: match\n", "1+b40b924ca9233655"), ("scorer: gsm8k\nends: true\n", "1+d21cba33eebd17c8")],
)
def test_versions_of_stored_records_stay(tmp_path: Path, body: str, golden: str) -> None:
    assert version(tmp_path, BODY + body) == golden


def test_a_ready_definition_keeps_its_version(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    assert get_suite("gsm8k", {"gsm8k": str(tmp_path / "rows.jsonl")}).version == "1+77331d0973b90676"
