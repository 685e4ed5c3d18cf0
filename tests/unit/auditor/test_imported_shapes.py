"""Every value of another tool's file in a wrong shape: taken, or refused by name; never a traceback."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignmerge.auditor.imported.evidence import Directions
from alignmerge.auditor.imported.files import read_files
from alignmerge.errors import RecordError, UsageError
from tests.imported_files import DATE, inspect_log, lm_eval_run

WRONG: tuple[Any, ...] = ("x", 5, -1, 10**400, [1], [{}], {"a": 5}, None, True)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*at, key)
        yield from places(one, (*at, key))


def changed(value: Any, at: tuple[Any, ...], wrong: Any) -> Any:
    out = copy.deepcopy(value)
    holder = out
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = wrong
    return out


def check(folder: Path, file: Path, value: Any, tail: str = "") -> int:
    """How many wrong values were refused."""
    said: list[str] = []
    for at in places(value):
        for wrong in WRONG:
            file.write_text(json.dumps(changed(value, at, wrong)) + tail)
            try:
                read_files([folder], Directions())
            except (RecordError, UsageError) as error:
                said.append(str(error))
    assert [one for one in said if str(file.parent) not in one] == []
    return len(said)


def test_results_and_samples_of_lm_eval(tmp_path: Path) -> None:
    path = lm_eval_run(tmp_path, [1.0])
    assert check(tmp_path, path, json.loads(path.read_text())) > 50
    lm_eval_run(tmp_path, [1.0])
    samples = tmp_path / f"samples_sums_{DATE}.jsonl"
    assert check(tmp_path, samples, json.loads(samples.read_text()), "\n") > 5


def test_logs_of_inspect(tmp_path: Path) -> None:
    path = inspect_log(tmp_path / "log.json", "C")
    assert check(tmp_path, path, json.loads(path.read_text())) > 50


def test_a_run_that_does_not_count_its_items_asked_those_of_its_samples(tmp_path: Path) -> None:
    path = lm_eval_run(tmp_path, [1.0, 0.0, 1.0], **{"n-samples": {"sums": {}}})
    (found,) = read_files([path, tmp_path / f"samples_sums_{DATE}.jsonl"], Directions())
    (use,) = found.suites
    assert (use.items, use.of) == (3, 3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n-samples": {"sums": 5}}, "sums"),
        ({"configs": {"sums": [1]}}, "configs"),
        ({"configs": 3}, "configs"),
        ({"versions": [1]}, "versions"),
        ({"higher_is_better": {"sums": 1}}, "higher|sums"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    path = lm_eval_run(tmp_path, [1.0], **changes)
    with pytest.raises(RecordError, match=named) as caught:
        read_files([path], Directions())
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 5


def test_malformed_logs_are_named(tmp_path: Path) -> None:
    path = inspect_log(tmp_path / "log.json", "C")
    good = json.loads(path.read_text())
    for at, wrong in (
        (("results", "total_samples"), "x"),
        (("samples", 0, "id"), [1]),
        (("results", "scores", 0, "metrics"), [1]),
        (("results", "scores", 0), 1),
        (("eval", "config"), "x"),
    ):
        path.write_text(json.dumps(changed(good, at, wrong)))
        with pytest.raises(RecordError, match=r"log\.json"):
            read_files([path], Directions())
