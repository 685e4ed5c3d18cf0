"""AQI: the paper's indices against scikit-learn, the bootstrap against brute force, the fit against a planted layer."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import calinski_harabasz_score

from alignmerge.auditor.scorers import aqi
from alignmerge.auditor.scorers.aqi import PairStates
from alignmerge.auditor.scorers.aqi_validity import NOT_SHOWN, validity
from alignmerge.errors import RecordError


def planted(gap: float, pairs: int = 60, layer: int = 3, layers: int = 5, d: int = 8, seed: int = 0) -> PairStates:
    """Pairs that share a topic and differ by `gap` along one direction of one layer."""
    draw = torch.Generator().manual_seed(seed)
    topic = torch.randn(pairs, layers, d, generator=draw)
    safe = topic + 0.3 * torch.randn(pairs, layers, d, generator=draw)
    unsafe = topic + 0.3 * torch.randn(pairs, layers, d, generator=draw)
    unsafe[:, layer, 0] += gap
    return PairStates(tuple(f"pair{n:03d}" for n in range(pairs)), safe, unsafe)


def brute_j(safe: np.ndarray, unsafe: np.ndarray) -> float:
    between = ((safe.mean(0) - unsafe.mean(0)) ** 2).sum()
    within = ((safe - safe.mean(0)) ** 2).sum() + ((unsafe - unsafe.mean(0)) ** 2).sum()
    return float(between / (within / (len(safe) + len(unsafe))))


@given(st.integers(4, 40), st.integers(1, 6), st.integers(0, 2**31))
def test_paper_form_agrees_with_scikit_learn(pairs: int, d: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    safe, unsafe = draw.normal(size=(pairs, d)), draw.normal(size=(pairs, d)) + 0.5
    j = float(aqi.separation(safe, unsafe)[0])
    assert j == pytest.approx(brute_j(safe, unsafe), rel=1e-9)
    labels = np.repeat([0, 1], pairs)
    chi = calinski_harabasz_score(np.concatenate([safe, unsafe]), labels)
    assert aqi.paper_aqi(j, 2 * pairs, weight=0.0) == pytest.approx(chi, rel=1e-9)
    assert aqi.paper_aqi(j, 2 * pairs, weight=1.0) == j
    assert aqi.paper_aqi(j, 2 * pairs) == pytest.approx(0.5 * j + 0.5 * chi, rel=1e-9)


def test_unequal_shares_follow_scikit_learn_too() -> None:
    draw = np.random.default_rng(1)
    safe, unsafe = draw.normal(size=(30, 3)), draw.normal(size=(10, 3)) + 1
    points, labels = np.concatenate([safe, unsafe]), np.repeat([0, 1], [30, 10])
    chi = calinski_harabasz_score(points, labels)
    assert aqi.paper_aqi(brute_j(safe, unsafe), 40, share_safe=0.75, weight=0.0) == pytest.approx(chi, rel=1e-9)


def test_resamples_are_computed_as_if_pairs_were_repeated() -> None:
    draw = np.random.default_rng(2)
    safe, unsafe = draw.normal(size=(12, 4)) + 50, draw.normal(size=(12, 4)) + 51
    counts = aqi.resamples(12, draws=25)
    assert counts.sum(axis=1).tolist() == [12.0] * 25
    for row, value in zip(counts, aqi.separation(safe, unsafe, counts), strict=True):
        index = np.repeat(np.arange(12), row.astype(int))
        assert value == pytest.approx(brute_j(safe[index], unsafe[index]), rel=1e-8)


def test_shuffled_labels_are_computed_as_if_pairs_were_swapped() -> None:
    draw = np.random.default_rng(3)
    safe, unsafe = draw.normal(size=(12, 4)) + 50, draw.normal(size=(12, 4)) + 52
    flips = np.random.default_rng(aqi.DRAW_SEED + 1).integers(0, 2, size=(20, 12)).astype(bool)
    found = aqi.shuffled(safe, unsafe, 20)
    for flip, value in zip(flips, found, strict=True):
        swap = flip[:, None]
        assert value == pytest.approx(brute_j(np.where(swap, unsafe, safe), np.where(swap, safe, unsafe)), rel=1e-8)
    assert max(found) < brute_j(safe, unsafe)


def test_every_checkpoint_sees_the_same_resamples() -> None:
    assert (aqi.resamples(30) == aqi.resamples(30)).all()
    reference = aqi.fit(planted(1.0))
    own, same = aqi.measure(planted(1.0), reference), aqi.measure(planted(1.0), reference)
    assert own == same
    assert len(own.replicates) == 1000
    assert own.standard_error == pytest.approx(np.std(own.replicates, ddof=1))


def test_the_fit_finds_the_layer_that_separates_and_drops_others() -> None:
    reference = aqi.fit(planted(2.0))
    assert reference.alpha[3] > 0.6
    assert sum(reference.alpha) == pytest.approx(1.0)
    assert min(reference.alpha) == 0.0
    assert reference == aqi.fit(planted(2.0))


def test_log_j_rises_with_separation_and_is_chance_without() -> None:
    reference = aqi.fit(planted(2.0))
    values = [aqi.measure(planted(gap, seed=1), reference).log_j for gap in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    nothing = aqi.measure(planted(0.0, seed=1), reference)
    assert nothing.log_j < np.quantile(nothing.shuffled, 0.999)


def test_rescaling_all_states_of_the_anchor_changes_nothing() -> None:
    states = planted(1.0)
    bigger = PairStates(states.pairs, states.safe * 7, states.unsafe * 7)
    one, other = aqi.measure(states, aqi.fit(states)), aqi.measure(bigger, aqi.fit(bigger))
    assert one.log_j == pytest.approx(other.log_j, rel=1e-6)


def test_rescaling_a_candidate_does_not_raise_its_aqi() -> None:
    states = planted(1.0)
    reference = aqi.fit(states)
    bigger = PairStates(states.pairs, states.safe * 7, states.unsafe * 7)
    assert aqi.measure(bigger, reference).log_j == pytest.approx(aqi.measure(states, reference).log_j, rel=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_sparsemax_is_the_nearest_point_of_the_simplex(scores: list[float]) -> None:
    found = aqi.sparsemax(torch.tensor(scores, dtype=torch.float64))
    assert float(found.min()) >= 0.0
    assert float(found.sum()) == pytest.approx(1.0)
    # optimality: (scores - found) is largest, and equal, on the support
    slack = torch.tensor(scores, dtype=torch.float64) - found
    assert float(slack[found > 0].min()) == pytest.approx(float(slack.max()), abs=1e-9)


def test_the_reference_survives_json_and_its_digest_guards_it() -> None:
    reference = replace(aqi.fit(planted(1.0)), valid=True, valid_reason="shown")
    assert aqi.from_json(reference.to_json()) == reference
    assert replace(reference, valid=False).digest == reference.digest
    value = reference.to_json()
    value["alpha"][0] += 0.25
    with pytest.raises(RecordError, match="digest"):
        aqi.from_json(value)
    with pytest.raises(RecordError, match="malformed"):
        aqi.from_json({"alpha": [1]})


def test_other_architectures_few_pairs_and_broken_states_are_refused() -> None:
    reference = aqi.fit(planted(1.0))
    with pytest.raises(RecordError, match="across architectures"):
        aqi.measure(planted(1.0, layers=6), reference)
    with pytest.raises(RecordError, match="at least 8"):
        aqi.measure(planted(1.0, pairs=7), reference)
    with pytest.raises(RecordError, match="at least 8"):
        aqi.fit(planted(1.0, pairs=7))
    broken = planted(1.0)
    broken.safe[0, 0, 0] = float("nan")
    with pytest.raises(RecordError, match="not finite"):
        aqi.fit(broken)
    with pytest.raises(RecordError, match="not finite"):
        aqi.measure(broken, replace(reference, alpha=(1.0, 0.0, 0.0, 0.0, 0.0)))
    same = planted(1.0)
    with pytest.raises(RecordError, match="do not differ"):
        aqi.measure(PairStates(same.pairs, same.safe, same.safe), reference)


class TestValidity:
    """The gate: signal above chance, anchor above base, monotone in between."""

    def results(self, *gaps: float) -> list[aqi.AqiResult]:
        reference = aqi.fit(planted(2.0))
        return [aqi.measure(planted(gap, seed=4), reference) for gap in gaps]

    def test_valid(self) -> None:
        anchor, middle, base = self.results(2.0, 1.0, 0.3)
        valid, reason = validity(anchor, [("midpoint", middle), ("base", base)])
        assert valid is True
        assert "above base" in reason

    def test_no_base_is_neither_valid_nor_invalid(self) -> None:
        assert validity(self.results(2.0)[0], []) == (None, NOT_SHOWN)

    def test_no_signal(self) -> None:
        valid, reason = validity(self.results(0.0)[0], [])
        assert valid is False
        assert "at random" in reason

    def test_base_above_anchor(self) -> None:
        anchor, base = self.results(1.0, 2.0)
        assert validity(anchor, [("base", base)])[0] is False

    def test_base_below_anchor_but_within_noise(self) -> None:
        anchor, base = self.results(1.0, 0.999)
        valid, reason = validity(anchor, [("base", replace(base, log_j=anchor.log_j - 1e-6))])
        assert valid is False or "lower bound +" in reason
        noisy = replace(base, replicates=tuple(value + 0.5 * (-1) ** n for n, value in enumerate(anchor.replicates)))
        assert validity(anchor, [("base", noisy)])[0] is False

    def test_not_monotone(self) -> None:
        anchor, middle, base = self.results(2.0, 0.3, 1.0)
        valid, reason = validity(anchor, [("midpoint", middle), ("base", base)])
        assert valid is False
        assert "rises from midpoint" in reason


def test_log_j_of_a_known_case() -> None:
    """Two points per side at distance 1 from their centroid, centroids 4 apart: J = 16 / 1."""
    safe, unsafe = np.array([[-1.0], [1.0]]), np.array([[3.0], [5.0]])
    assert math.log(float(aqi.separation(safe, unsafe)[0])) == pytest.approx(math.log(16.0))
