"""Format constraints of rows: what nobody could verify is refused when the rows are read, not left to chance later."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from alignmerge.auditor.scorers.instructions import VERIFIERS
from alignmerge.errors import RecordError
from alignmerge.suites.constraints import KINDS, constraint_fault
from alignmerge.suites.model import SPLITS, Item
from alignmerge.suites.registry import SUITES, get_suite


def items(folder: Path, constraints: object) -> tuple[Item, ...]:
    path = folder / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "Shout.", "constraints": constraints}) + "\n")
    return get_suite(str(path)).items("test")


def test_every_kind_has_its_verifier() -> None:
    assert set(KINDS) == set(VERIFIERS)


def test_every_constraint_of_the_shipped_suite_is_sound() -> None:
    items = [item for split in SPLITS for item in SUITES["instructions"].items(split)]
    found = [one for item in items for one in item.reference["constraints"]]
    assert {one["kind"] for one in found} == set(KINDS)
    assert not any(map(constraint_fault, found))


@pytest.mark.parametrize("constraints", ["all_upper", [], {"kind": "all_upper"}, ["all_upper"], [{}, None]])
def test_constraints_are_a_list_of_objects(tmp_path: Path, constraints: object) -> None:
    assert items(tmp_path, [{"kind": "all_upper"}])[0].reference["constraints"] == [{"kind": "all_upper"}]
    with pytest.raises(RecordError, match=r"mine\.jsonl:1: the reference 'constraints' is"):
        items(tmp_path, constraints)


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({}, "no constraint kind None; known: all_lower"),
        ({"kind": ["bullets"]}, "no constraint kind .'bullets'"),
        ({"kind": "bulets", "n": 3}, "no constraint kind 'bulets'; did you mean bullets"),
        ({"kind": "bullets"}, "constraint bullets has no 'n', a whole number"),
        ({"kind": "bullets", "n": None}, "constraint bullets has no 'n'"),
        ({"kind": "bullets", "n": 3, "m": 3}, "constraint bullets has no argument 'm'; it takes n"),
        *(
            ({"kind": "bullets", "n": wrong}, "constraint bullets: 'n' is .*, not a whole number from 0")
            for wrong in ("three", "3", 3.5, -1, True, [3])
        ),
        ({"kind": "ends_with", "phrase": 3}, "constraint ends_with: 'phrase' is 3, not a text"),
        ({"kind": "starts_with", "phrase": " "}, "constraint starts_with: 'phrase' is ' ', not a text"),
        ({"kind": "json_keys", "keys": "title"}, "constraint json_keys: 'keys' is 'title', not a list of texts"),
        ({"kind": "json_keys", "keys": []}, ".*not a list of texts"),
        ({"kind": "json_keys", "keys": ["a", 1]}, ".*not a list of texts"),
    ],
)
def test_a_constraint_that_nobody_can_verify_is_refused(tmp_path: Path, constraint: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordError, match=rf"mine\.jsonl:1: {said}"):
        items(tmp_path, [{"kind": "all_upper"}, constraint])


def test_constraints_of_parquet_are_those_of_json(tmp_path: Path) -> None:
    both = [{"kind": "ends_with", "phrase": "x"}, {"kind": "bullets", "n": 3}]
    table = pyarrow.table({"prompt": ["Shout."], "constraints": [both]})
    assert None in table.to_pylist()[0]["constraints"][0].values()  # each object of a column has the keys of all
    parquet.write_table(table, tmp_path / "mine.parquet")
    assert get_suite(str(tmp_path / "mine.parquet")).items("test") == items(tmp_path, both)


@pytest.mark.parametrize("answer", [{"a": 1}, [["a"]], ["a", {"b": 1}]])
def test_an_answer_that_is_no_text_is_refused(tmp_path: Path, answer: object) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "2 + 2?", "answer": answer}) + "\n")
    with pytest.raises(RecordError, match=r"mine\.jsonl:1: the reference 'answer' is neither a text nor a list"):
        get_suite(str(path))
