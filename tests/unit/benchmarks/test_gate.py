"""The simulation of the gate: its shortcut says what the gate says, and its results are those of the committed file."""

import json

import pytest

from benchmarks import gate


@pytest.mark.parametrize(
    ("counts", "decision"),
    [((0, 0, 240), "PASS"), ((20, 5, 240), "INCONCLUSIVE"), ((45, 5, 240), "FAIL"), ((90, 0, 240), "FAIL")],
)
def test_counts_alone_say_what_the_gate_says_of_whole_records(counts: gate.Counts, decision: str) -> None:
    assert gate.ours(300, counts) == gate.quick(300, counts) == decision


def test_an_effect_simulated_again_gives_the_committed_row() -> None:
    rows = json.loads(gate.RESULTS.read_text())["simulation"]["rows"]
    [kept] = [row for row in rows if (row["items"], row["loss"]) == (300, gate.LIMIT)]
    assert gate.simulated(300, gate.LIMIT) == kept
    assert kept["pass_low"] <= gate.ALPHA
