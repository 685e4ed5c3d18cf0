"""What the pieces of AlignMerge's geometry cost, as multiples of one forward-backward pass over the same rows.

    python benchmarks/geometry.py

The pass takes the gradient of every merged linear weight, with logits at answer positions alone. All pieces run side by
side in one process on the reference model in bfloat16, on rows of 40 + 8 tokens, as the solve runs them; then again
with half and twice the rows, and on the model's first half of layers. CPU seconds are what counts on a machine that is
shared: by default on one thread, because two wait for each other by spinning. Of --rounds runs, each of some minutes,
the least is taken.

Expected before the first run, at 16 rows of 48 tokens: what geometry_work.py's formulas say (factors 0.7 of a pass,
Gram matrix 0.4, step 0.3, restoring step 1.8, blame 10), and more where numbers are walked and not multiplied: the Gram
matrix writes every row's gradient, the Fisher squares each in float32, a descent step walks six copies of the weights.
Pieces in float32 (coordinates, subspace, blame) cost several times their operations on a processor that multiplies
bfloat16 faster. Everything grows linearly with rows and depth but for the Gram matrix, whose quadratic part passes the
linear one where rows outnumber the tokens of a row, and the copies of the weights, which do not grow with rows.

The closed form came later. Expected before its first run: 15 passes where its operations are 3.2, because three
quarters of them are in float64; with twice the rows 1.3 to 1.5 times as much, because its solves do not grow with them.

The progressive start came after it. Expected before its first run: 7 passes where its operations are 3.0 (1.8 forward
in bfloat16, 0.6 in float32, which the pieces in float32 paid three times, 0.5 in float64, which the closed form paid
six times); with twice the rows 1.4 to 1.5 times as much, with twice the depth twice.

Memory is the process's growth at its highest during a piece, beside what a formula counts of its own tensors (the
growth includes activations, about the same for every piece). Not run on a GPU: the 8 B estimate is by formula alone.
"""

import argparse
import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.geometry_estimate import estimate, llama_8b  # noqa: E402
from benchmarks.geometry_starts import STARTS  # noqa: E402
from benchmarks.geometry_work import PIECES, predicted, scaling, table  # noqa: E402
from benchmarks.measure import busy_seconds  # noqa: E402
from benchmarks.study.memory import Growth  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "geometry.json"
MACHINE = "2 vCPU x86-64 with AMX and AVX-512, shared with other work"
ROWS, AT, BLAMED = (8, 16, 32), 16, 8
PROMPT, ANSWER = 40, 8
Cost = dict[str, Any]


def timed(
    action: Callable[[], object], rounds: int, times: int = 1, before: Callable[[], object] = lambda: None
) -> Cost:
    """The least CPU and wall seconds of `rounds` runs, divided by `times`, and the largest growth of memory (MB).

    before: called ahead of every run and not timed.
    """
    runs: list[tuple[float, float]] = []
    grown: list[float] = []
    for _ in range(rounds):
        before()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with Growth() as growth:
            wall, cpu = time.perf_counter(), time.process_time()
            action()
            runs.append((time.process_time() - cpu, time.perf_counter() - wall))
        grown += [] if growth.megabytes is None else [growth.megabytes]
    return {
        "cpu": min(cpu for cpu, _ in runs) / times,
        "wall": min(wall for _, wall in runs) / times,
        "megabytes": max(grown) if grown else None,
    }


def half_depth(config: Mapping[str, Any], tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and tensors of the model's first half of layers."""
    layers = int(config["num_hidden_layers"]) // 2
    kept = {
        name: value
        for name, value in tensors.items()
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < layers
    }
    return {**config, "num_hidden_layers": layers}, kept


def of_model(
    config: Mapping[str, Any], tensors: Mapping[str, Any], rows: int, rounds: int
) -> tuple[Any, dict[str, Cost]]:
    """The size, and the cost of every piece but blame."""
    from benchmarks.geometry_pieces import DESCENT_STEPS, Pieces

    pieces = Pieces(config, tensors, rows, PROMPT, ANSWER)
    pieces.actions["pass"]()  # the first pass of a process sets libraries up
    found: dict[str, Cost] = {}
    for name, action in pieces.actions.items():
        before = pieces.restore if name in STARTS else lambda: None
        found[name] = timed(action, rounds, DESCENT_STEPS if name == "descent" else 1, before)
        if name == "coordinates":
            pieces.move()
    again = timed(pieces.actions["pass"], rounds)  # all else is divided by it, and a machine changes meanwhile
    found["pass"] |= {kind: min(found["pass"][kind], again[kind]) for kind in ("cpu", "wall")}
    return pieces.size, {name: found[name] for name in PIECES if name in found}


def of_blame(config: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Cost]:
    """Blame, and a pass over its rows in the float32 it computes in."""
    from benchmarks.geometry_pieces import Blaming

    blaming = Blaming(config, tensors, BLAMED, PROMPT, ANSWER)
    blaming.actions["pass"]()
    return {name: timed(action, 1) for name, action in blaming.actions.items()}


def compared(size: Any, costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """Each cost with its multiple of a pass, that of its operations, and the bytes of its formula."""
    whole = costs["pass"]["cpu"]
    return {
        name: {
            **cost,
            "passes": cost["cpu"] / whole,
            "predicted": predicted(name, size),
            "formula_mb": PIECES[name].bytes(size) / 1e6,
        }
        for name, cost in costs.items()
    }


def measured(rounds: int, say: Callable[[str], None], keep: Callable[[dict[str, Any]], None]) -> None:
    """Everything, told and handed to `keep` as it comes."""
    from alignmerge.merger.checkpoint import open_checkpoint

    opened = open_checkpoint("reference:smollm2-135m")
    tensors = {name: opened.read(name) for name in opened.tensors}
    cpu: dict[int, dict[str, float]] = {}
    by_rows: dict[str, Any] = {}
    for rows in ROWS:
        size, costs = of_model(opened.config, tensors, rows, rounds)
        cpu[rows] = {name: cost["cpu"] for name, cost in costs.items()}
        by_rows[str(rows)] = compared(size, costs)
        say(f"{rows} rows of {PROMPT + ANSWER} tokens, {size.weights:.3g} weights")
        say("\n".join(table(by_rows[str(rows)])))
        keep({"rows": by_rows})
    keep({"blame": (blame := blamed(opened.config, tensors, cpu[BLAMED]["pass"]))})
    say(
        f"finite blame, 8 points, {BLAMED} rows: {blame['cpu']:.2f} CPU s, {blame['passes_float32']:.1f} passes in its "
        f"own float32, {blame['passes']:.1f} in bfloat16"
    )
    _, halved = of_model(*half_depth(opened.config, tensors), AT, rounds)
    grown = scaling(cpu, {name: cost["cpu"] for name, cost in halved.items()}, AT)
    say("\n".join(_scaling_lines(grown)))
    keep({"half_depth": halved, "scaling": grown})


def blamed(config: Mapping[str, Any], tensors: Mapping[str, Any], whole: float) -> Cost:
    """Blame's cost, as a multiple of its own float32 pass and of one of `whole` CPU seconds."""
    found = of_blame(config, tensors)
    own, single = found["blame"], found["pass"]
    return {**own, "passes_float32": own["cpu"] / single["cpu"], "passes": own["cpu"] / whole, "pass_float32": single}


def _scaling_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"{'CPU seconds with twice the':34} {'rows':>16} {'depth':>7} {'quadratic at ' + str(max(ROWS)):>18}"]
    for name, one in found.items():
        rows = ", ".join(f"{value:.2f}" for value in one["rows"].values())
        lines.append(f"{PIECES[name].title:34} {rows:>16} {one['depth']:7.2f} {one['quadratic_share']:18.2f}")
    return lines


def _estimate_lines(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"8 B by formula: {found['weights']:.3g} weights, {found['rows']} rows of {found['tokens']} tokens, "
        f"{found['answers']} of them answers, {found['rate']:.0e} operations a second assumed"
    ]
    for name, one in found["pieces"].items():
        lines.append(
            f"{PIECES[name].title:34} {one['operations']:9.2e} op. {one['seconds']:8.1f} s {one['gigabytes']:7.1f} GB"
        )
    solve = found["solve"]
    double = solve["start_double"]
    lines.append(
        f"{'a start, three experts':34} {solve['start']:9.2e} op. {solve['start'] / found['rate']:8.1f} s "
        f"{solve['start_gigabytes']:7.1f} GB held"
    )
    lines.append(f"{'and in float64, on a CPU':34} {double:9.2e} op. {double / found['double_rate']:8.1f} s")
    other = found["progressive"]
    lines.append(
        f"{'a progressive start, three experts':34} {other['operations']:9.2e} op. "
        f"{other['operations'] / found['rate']:8.1f} s {other['gigabytes']:7.1f} GB held"
    )
    lines.append(f"{'of these in float32':34} {other['float32']:9.2e} op.")
    lines.append(
        f"{'and in float64, on a CPU':34} {other['double']:9.2e} op. {other['double'] / found['double_rate']:8.1f} s"
    )
    lines.append(
        f"{'a solve':34} {solve['operations']:9.2e} op. {solve['seconds']:8.1f} s {solve['gigabytes']:7.1f} GB held"
    )
    return lines


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each piece, the least counts (default: 1)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--machine", default=MACHINE, help="the machine in words")
    parser.add_argument("--estimate-only", action="store_true", help="print the 8 B estimate and stop")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> int:
    """Measure, print the tables and write them."""
    chosen = arguments()
    guess = estimate(llama_8b())
    if chosen.estimate_only:
        print("\n".join(_estimate_lines(guess)))
        return 0
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import torch

    from alignmerge import jsonio
    from benchmarks.merge_machine import versions

    torch.set_num_threads(chosen.threads)
    begun, at_first = time.perf_counter(), busy_seconds()
    results: dict[str, Any] = {"about": __doc__, "machine": chosen.machine, "threads": chosen.threads}
    results |= {"rounds": chosen.rounds, "estimate_8b": guess, **versions(("torch", "transformers"))}
    results |= {"expected": {name: piece.expected for name, piece in PIECES.items()}}

    def keep(part: dict[str, Any]) -> None:
        wall = time.perf_counter() - begun
        others = max(0.0, busy_seconds() - at_first - time.process_time()) / (wall * (os.cpu_count() or 1))
        results.update(part, seconds=round(wall, 1), others_share=round(others, 2))
        jsonio.write(chosen.output, results)

    measured(chosen.rounds, lambda text: print(text, flush=True), keep)
    print("\n".join(_estimate_lines(guess)))
    shares = f"others took {results['others_share']:.0%} of the processors"
    print(f"{results['seconds']:.0f} s; {shares}; written: {chosen.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
