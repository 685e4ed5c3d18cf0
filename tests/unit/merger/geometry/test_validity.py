"""The validity gate: what passes, what fails and why, what is taken instead, and what the record keeps."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignmerge import jsonio
from alignmerge.errors import RecipeError
from alignmerge.merger.geometry import validity
from alignmerge.merger.geometry.functional import Estimate, Measured
from alignmerge.merger.geometry.functionals import resampling
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row
from alignmerge.merger.geometry.validity import Candidate, Ladder, NoBudget, candidates, choose, judge

NAMES = ("the anchor", "half", "unaligned")


def items(mean: float, seed: int = 0, spread: float = 1.0, count: int = 20) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=draw).double()
    return mean + spread * (values - values.mean())


def path(*values: torch.Tensor, chance: float | None = None) -> list[tuple[str, Measured]]:
    found = [Measured(float(one.mean()), resampling.means(one)) for one in values]
    found[0] = found[0]._replace(chance=chance)
    return list(zip(NAMES, found, strict=False))


def test_a_functional_that_falls_along_the_line_passes() -> None:
    base = items(0.0)
    found = judge(path(base, base - 0.1 + items(0, 1, 0.05), base - 0.3 + items(0, 2, 0.05)))
    assert found.passed
    assert [rung.model for rung in found.values] == list(NAMES)
    assert found.values[1].difference == pytest.approx(0.1)
    low, high = found.values[1].low, found.values[1].high
    # paired: the items' own spread of 1 would give an interval of +-0.44
    assert low is not None and high is not None and 0.05 < low < 0.1 < high < 0.15
    jsonio.canonical(found.to_json())


def test_the_comparison_is_paired_and_an_interval_over_zero_fails() -> None:
    base = items(0.0)
    found = judge(path(base, base - 0.1 + items(0, 1, 1.0), base - 3))
    assert not found.passed
    assert "the anchor is not above half: by +0.1000" in found.reason


def test_rising_along_the_line_fails() -> None:
    base = items(0.0)
    found = judge(path(base, base - 0.3, base - 0.2))
    assert not found.passed
    assert "rises from half (-0.3000) to unaligned (-0.2000)" in found.reason


def test_a_score_that_ranks_the_unaligned_model_higher_fails() -> None:
    base = items(0.0)
    assert "not above half" in judge(path(base, base + 0.1, base + 0.2)).reason


def test_labels_at_chance_fail() -> None:
    base = items(0.0)
    found = judge(path(base, base - 0.1, base - 0.2, chance=0.01))
    assert not found.passed
    assert "swapped at random reach 0.010" in found.reason
    assert judge(path(base, base - 0.1, base - 0.2, chance=-0.01)).passed


def test_no_number_fails_and_no_weaker_model_is_an_error() -> None:
    broken = judge(path(items(0.0), items(math.nan), items(-1.0)))
    assert (broken.passed, broken.reason) == (False, "a value is not finite")
    jsonio.canonical(broken.to_json())
    with pytest.raises(ValueError, match="weaker"):
        judge(path(items(0.0)))


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.integers(0, 99), st.floats(-100, 100))
def test_only_a_falling_line_passes_wherever_zero_lies(means: list[float], seed: int, shift: float) -> None:
    values = [items(mean, seed + index, 0.1) for index, mean in enumerate(means)]
    found = judge(path(*values))
    if found.passed:
        assert means[0] > means[1] and means[1] >= means[2] - 1e-9
    if means[0] - max(means[1:]) > 0.5 and means[1] - means[2] > 1e-6:
        assert found.passed
    moved = judge(path(*(value + shift for value in values)))
    if all(abs(one - two) > 1e-9 for one, two in pairwise(means)):
        assert moved.passed == found.passed


class Scored:
    """A functional whose model is a number: the share of the way to the unaligned model."""

    unit, anchor, noise = "points", 0.0, 0.1

    def __init__(self, name: str, slope: float) -> None:
        self.name, self._slope = name, slope

    def measured(self, model: float) -> Measured:
        values = self._slope * model + items(0.0, int(model * 10), 0.01)
        return Measured(float(values.mean()), resampling.means(values))

    def value(self, model: float) -> Estimate:
        return Estimate(self._slope * model, -1.0, 1.0, 20)

    def gap(self, model: float) -> float:
        return -self._slope * model


def candidate(name: str, slope: float) -> Candidate:
    return Candidate(name, lambda _: Scored(name, slope))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(validity, "say", lines.append)
    return lines


LADDER = Ladder(lambda share: share, "the base", "d1g3st")


def test_the_first_that_passes_is_taken_and_failures_are_announced(said: list[str]) -> None:
    found = choose([candidate("aqi", 1.0), candidate("own-answers", -1.0), candidate("refusal-margin", -1.0)], LADDER)
    assert found.functional is not None and found.functional.name == "own-answers"
    assert [row["name"] for row in found.record["tried"]] == ["aqi", "own-answers"]
    assert [row["passed"] for row in found.record["tried"]] == [False, True]
    assert found.record["against"] == {"name": "the base", "digest": "d1g3st"}
    assert (found.record["asked"], found.record["functional"], found.record["gate"]) == ("aqi", "own-answers", "passed")
    assert "aqi failed the validity gate and is not used" in said[0] and said[0].endswith("next: own-answers")
    assert "own-answers passed the validity gate" in said[1]
    labels = [rung["model"] for rung in found.record["tried"][1]["values"]]
    assert labels == ["the anchor", "50% of the way to the base", "the base"]
    jsonio.canonical(dict(found.record))


def test_nothing_passes(said: list[str]) -> None:
    blind = [candidate("aqi", 0.0), candidate("own-answers", 0.0)]
    found = choose(blind, LADDER)
    assert found.functional is None
    assert found.record["functional"] is None and "no functional" in found.record["gate"]
    assert said[-1].startswith("budget: there is none in this solve")
    assert said[1].endswith("next: none is left")
    with pytest.raises(NoBudget, match="none of aqi, own-answers tells the anchor from the base") as caught:
        choose(blind, LADDER, hard=True)
    assert caught.value.exit_code == 4


def test_without_a_weaker_model_own_answers_is_used_and_said(said: list[str]) -> None:
    loaded: list[float] = []

    def load(share: float) -> float:
        loaded.append(share)
        return share

    found = choose([candidate("aqi", -1.0), candidate("own-answers", 0.0)], Ladder(load))
    assert found.functional is not None and found.functional.name == "own-answers"
    assert found.record["gate"] == "not run: no weaker model is named"
    assert said == ["budget: validity gate not run: no weaker model is named; own-answers is used instead of aqi"]
    assert loaded == []  # own answers need no model
    choose([candidate("own-answers", 0.0)], Ladder(load))
    assert said[-1].endswith("own-answers is used")
    with pytest.raises(RecipeError, match="needs a weaker model"):
        choose([candidate("aqi", -1.0)], Ladder(load))


def test_one_that_cannot_be_made_is_an_error_only_where_it_was_asked_for(said: list[str]) -> None:
    def refuse(_: Callable[[], Any]) -> Any:
        raise RecipeError("calibration: too few pairs")

    found = choose([candidate("own-answers", 0.0), Candidate("aqi", refuse), candidate("refusal-margin", -1)], LADDER)
    assert found.functional is not None and found.functional.name == "refusal-margin"
    assert found.record["tried"][1]["reason"] == "it cannot be measured: calibration: too few pairs"
    with pytest.raises(RecipeError, match="too few pairs"):
        choose([Candidate("aqi", refuse), candidate("own-answers", -1.0)], LADDER)


def test_one_model_is_loaded_at_a_time() -> None:
    alive: list[int] = [0]
    most: list[int] = [0]

    class Model(float):
        def __new__(cls, share: float) -> "Model":
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return super().__new__(cls, share)

        def __del__(self) -> None:
            alive[0] -= 1

    choose([Candidate("aqi", lambda anchor: Scored("aqi", -1.0 + 0 * anchor()))], Ladder(Model, "the base"))
    assert most[0] == 1


def test_candidates_come_in_a_fixed_order_after_the_one_asked_for() -> None:
    rows = tuple(Row((index,), (9,), ALIGNMENT, 0.0) for index in range(4))
    calibration = Calibration((), rows, 0)

    def fit(*_: torch.Tensor) -> Any:
        raise AssertionError("not asked for")

    names = [one.name for one in candidates("aqi", calibration, fit)]
    assert names == ["aqi", "own-answers", "refusal-margin"]
    assert [one.name for one in candidates("own-answers", calibration, None)] == ["own-answers", "refusal-margin"]
    with pytest.raises(RecipeError, match="functional: 'aqi' is not known here"):
        candidates("aqi", calibration, None)
    with pytest.raises(RecipeError, match="alignment_items"):
        candidates("aqi", calibration, fit)[0].build(lambda: None)


def test_pairs_are_made_of_the_rows_and_leave_the_digest_alone() -> None:
    one, two, held, out = (Row((index,), (9,), ALIGNMENT, 0.0) for index in range(4))
    plain = Calibration((one, two), (held, out), 0)
    paired = Calibration((one, two), (held, out), 0, pairs=((held, out),), fitting=((one, two),))
    assert plain.digest == paired.digest
    assert plain.digest == jsonio.digest(
        [[(ALIGNMENT, (0,), (9,)), (ALIGNMENT, (1,), (9,))], [(ALIGNMENT, (2,), (9,)), (ALIGNMENT, (3,), (9,))]]
    )
    with pytest.raises(ValueError, match="pairs: a pair holds a row"):
        Calibration((one, two), (held, out), 0, pairs=((one, two),))
    with pytest.raises(ValueError, match="fitting: a pair holds a row"):
        Calibration((one, two), (held, out), 0, fitting=((held, out),))
