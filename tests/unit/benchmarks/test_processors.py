"""Two machines' cells of one checkpoint: what came out otherwise is counted, other items are refused."""

from dataclasses import replace

import pytest

from benchmarks.processors import compared
from benchmarks.study import cells
from benchmarks.study.cells import RESULTS, Outcome


def test_what_came_out_otherwise_is_counted() -> None:
    one = cells.read(RESULTS / "main" / "anchor.json")
    assert compared(one, one) == {"items": 2340, "otherwise": 0, "rate": 0.0, "same_checkpoint": True}
    own = one.suites["units"]
    flipped = "".join("10"[int(bit)] for bit in own.bits[:3]) + own.bits[3:]
    ones = own.bits[:3].count("1")
    changed = replace(own, bits=flipped, rate=flipped.count("1") / len(flipped))
    other = replace(one, suites={**one.suites, "units": changed}, digest="other")
    found = compared(one, other)
    assert (found["otherwise"], found["same_checkpoint"]) == (3, False)
    assert found["rate"] == pytest.approx(abs(3 - 2 * ones) / len(own.bits))


def test_other_items_are_refused() -> None:
    one = cells.read(RESULTS / "main" / "anchor.json")
    cut = {**one.suites, "units": Outcome.of("some_rate", ["x"], "1")}
    with pytest.raises(ValueError, match="other items"):
        compared(one, replace(one, suites=cut))


def test_the_committed_cells_of_two_processors_are_one_checkpoint() -> None:
    paths = sorted((RESULTS.parent / "study_avx2" / "main").glob("*.json"))
    assert [path.name for path in paths] == ["anchor.json", "seed0-two-linear.json"]
    for path in paths:
        found = compared(cells.read(RESULTS / "main" / path.name), cells.read(path))
        assert found["same_checkpoint"] and found["otherwise"] <= 0.05 * found["items"]
