"""What the comparison with lm-eval keeps: ratios of the least seconds, also in the committed files."""

import json
from pathlib import Path

import pytest

from benchmarks.audit import Timed, compare, ratios

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def test_one_disturbed_round_does_not_count() -> None:
    seconds = {
        "alignmerge": [{"wall": 10.0}, {"wall": 30.0}],
        "alignmerge vllm": [{"wall": 8.0}, {"wall": 5.0}],
        "lm_eval batch 64": [{"wall": 200.0}, {"wall": 20.0}],
    }
    found = ratios(seconds, "wall")
    assert found == {"alignmerge": {"lm_eval batch 64": 2.0}, "alignmerge vllm": {"lm_eval batch 64": 4.0}}


def test_scores_are_compared_item_by_item() -> None:
    runs = {
        "alignmerge": [Timed([1.0, 0.0, 1.0, 1.0], 1.0, 2.0)],
        "lm_eval batch 64": [Timed([1.0, 1.0, 1.0, 1.0], 2.0, 3.0)],
        "lm_eval batch 16": [Timed([1.0, 0.0, 0.0, 1.0], 4.0, 8.0)],
    }
    found = compare(runs)
    assert found["same_score"] == {"alignmerge": {"lm_eval batch 64": 0.75, "lm_eval batch 16": 0.75}}
    assert found["same_score_lm_eval_with_itself"] == 0.5
    assert found["ratio_wall"]["alignmerge"] == {"lm_eval batch 64": 2.0, "lm_eval batch 16": 4.0}
    assert found["ratio_processor"]["alignmerge"] == {"lm_eval batch 64": 1.5, "lm_eval batch 16": 4.0}
    assert found["mean_score"]["alignmerge"] == 0.75


@pytest.mark.parametrize("name", ["audit.json", "audit_float32.json"])
@pytest.mark.parametrize("kind", ["generated", "chosen"])
def test_the_ratios_of_a_committed_file_are_those_of_its_seconds(name: str, kind: str) -> None:
    found = json.loads((RESULTS / name).read_text())[kind]
    for part in ("wall", "processor"):
        assert found[f"ratio_{part}"] == ratios(found["seconds"], part)
