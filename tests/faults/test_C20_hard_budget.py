"""C20: a hard budget that the solve cannot keep. Exit 3 with the figures in one line, and nothing published."""

import re

import pytest

from alignmerge import jsonio
from tests.faults.hostile import Bench


def arguments(bench: Bench) -> list[str]:
    """A merge whose hard budget no knob can keep."""
    parameters = {"budget_form": "hard", "budget": 0.0, "scale": 3.0, "threads": 1}
    few = {"descent_steps": 1, "stretches": 1, "batch_rows": 2, "steps": 0}
    sizes = {
        "alignment_items": 2, "expert_items": 2, "validation_items": 2, "alignment_tokens": 3, "expert_tokens": 3,
    }  # fmt: skip
    expert = {"model": str(bench.expert), "trained_from": "anchor", "skill": "units"}
    return bench.arguments(method="alignmerge", experts=[expert], parameters={**parameters, **few}, calibration=sizes)


def test_C20_a_hard_budget_that_is_not_met(bench: Bench) -> None:
    from alignmerge.cli import main

    given = arguments(bench)
    bench.capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(given)
    message = bench.capfd.readouterr().err
    assert ended.value.code == 3, message
    assert "Traceback" not in message
    (line,) = [one for one in message.splitlines() if one.startswith("error: ")]
    assert message.endswith(f"{line}\n") and len(line) < 400
    found = re.search(
        r"own-answers .* is (\S+) nats per token .* hard limit of 0 by (\S+); raise parameters\.budget", line
    )
    assert found and found[1] == found[2] and float(found[1]) > 0
    assert not bench.out.exists()
    assert not list(bench.folder.rglob("out*/**/*.safetensors"))


def test_C20_a_search_in_which_no_hard_budget_holds_names_the_nearest_and_who_spent_it(bench: Bench) -> None:
    from alignmerge.cli import main

    few = ["--fit", "demo", "--evaluations", "2", "--items", "4", "--limit", "4"]
    bench.capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*arguments(bench), *few])
    shown = bench.capfd.readouterr()
    assert ended.value.code == 3, shown.err
    record = jsonio.read(bench.out / "records" / "fit.json")
    over = [one["budgets"][0] for one in record["evaluations"]]
    assert all(one["rule"] == "parameters.budget" and one["excess"] > 0 for one in over)
    nearest = min(over, key=lambda one: one["excess"])
    assert record["best"] == over.index(nearest) + 1
    lines = shown.out.splitlines()
    binding = next(line for line in lines if line.startswith("  binding: parameters.budget: "))
    assert binding.endswith(f"where {nearest['limit']:.4g} is allowed, over by {nearest['excess']:.3g}")
    assert any(line.startswith(f"  least outside: evaluation {record['best']}: ") for line in lines)
    assert any(line.startswith(f"  spent by: {bench.expert}: ") for line in lines)
    assert record["spent_by"]["worst"] == str(bench.expert)
    assert not list(bench.folder.rglob("out*/**/*.safetensors"))
