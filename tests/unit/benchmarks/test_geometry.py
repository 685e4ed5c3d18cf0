"""The geometry benchmark's formulas and pieces; its measurements are made by `benchmarks/geometry.py`."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from alignmerge import jsonio, products
from alignmerge.merger.checkpoint import Checkpoint, open_checkpoint
from benchmarks.geometry import RESULTS, _estimate_lines, compared, half_depth, timed
from benchmarks.geometry_estimate import estimate, llama_8b
from benchmarks.geometry_pieces import Blaming, Pieces
from benchmarks.geometry_size import Size
from benchmarks.geometry_starts import (
    STARTS,
    progressive_forwards,
    progressive_products,
    solves,
    start_forwards,
    start_products,
    start_solves,
)
from benchmarks.geometry_work import PIECES, predicted, quadratic_share, scaling, table

SIZE = Size({"a": (60, 40), "b": (40, 60)}, vocabulary=50, hidden=40, rows=8, tokens=10, answers=2)


@pytest.fixture
def opened(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Its models multiply as on a processor with bfloat16 products: the formulas count what torch is asked there."""
    monkeypatch.setattr(products, "slow", lambda: False)
    return open_checkpoint(str(tiny_checkpoint))


def made(opened: Checkpoint, rows: int = 8) -> Pieces:
    return Pieces(opened.config, {name: opened.read(name) for name in opened.tensors}, rows, 6, 2)


class Products(TorchDispatchMode):
    """Counts the operations of matrix products by dtype, and of solves with a matrix beside the system."""

    # A linear layer is a product (mm) of its own where gradients may be asked for; in inference neither it nor a
    # product (matmul) or a solve of tensors is taken apart. Those of more dimensions are attention's, left out.
    def __init__(self) -> None:
        super().__init__()
        self.by: Counter[torch.dtype] = Counter()
        self.solved = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        packet, aten = func._overloadpacket, torch.ops.aten
        if packet in (aten.mm, aten.bmm, aten.linear) or (packet is aten.matmul and args[0].dim() == 2):
            self.by[found.dtype] += 2 * args[0].shape[-1] * found.numel()
        if packet in (aten._linalg_solve_ex, aten.linalg_solve):
            side = args[0].shape[-1]
            self.solved += 2 / 3 * side**3 + 2 * side * args[1].numel()
        return found


def test_operations_are_those_that_run(opened: Checkpoint) -> None:
    pieces = made(opened)
    for name in ("subspace", "coordinates", "pass", "factors", "gram_identity", "step"):
        with Products() as counter:
            pieces.actions[name]()
        # What the formulas leave out: attention's own products; the first layer's inputs need no gradient in a pass.
        assert counter.by.total() == pytest.approx(PIECES[name].operations(pieces.size), rel=0.1), name
        if name == "coordinates":
            pieces.move()


def test_a_start_multiplies_and_solves_what_its_formulas_say(opened: Checkpoint) -> None:
    pieces = made(opened)
    pieces.move()
    with Products() as counter:
        pieces.actions["start"]()
    assert counter.by == {torch.bfloat16: start_forwards(pieces.size), torch.float64: start_products(pieces.size)}
    assert counter.solved == pytest.approx(start_solves(pieces.size))
    parts = sum(part(pieces.size) for part in (start_forwards, start_products, start_solves))
    assert PIECES["start"].operations(pieces.size) == parts


@pytest.mark.parametrize("rows", [8, 24])  # a teacher's in less than a batch, and in two
def test_a_progressive_start_multiplies_and_solves_what_its_formulas_say(opened: Checkpoint, rows: int) -> None:
    pieces = made(opened, rows)
    pieces.move()
    with Products() as counter:
        pieces.actions["progressive"]()
    size = pieces.size
    assert counter.by == {
        torch.bfloat16: pytest.approx(progressive_forwards(size)),
        torch.float32: progressive_products(size),
    }
    assert counter.solved == pytest.approx(solves(size))
    parts = progressive_forwards(size) + progressive_products(size) + solves(size)
    assert PIECES["progressive"].operations(size) == parts


def test_every_piece_does_its_work(opened: Checkpoint) -> None:
    pieces = made(opened)
    assert set(pieces.actions) | {"blame"} == set(PIECES)
    for name, action in pieces.actions.items():
        before = {name: module.weight.detach().clone() for name, module in pieces.layers.items()}
        cost = timed(action, 1, before=pieces.restore if name in STARTS else lambda: None)
        assert cost["cpu"] > 0, name
        if name == "coordinates":
            pieces.move()
        if name == "descent":
            moved = [module.weight.detach().float() - pieces.start[name] for name, module in pieces.layers.items()]
            assert any(bool(move.any()) for move in moved)
        if name in STARTS:
            assert not any(torch.equal(module.weight, before[name]) for name, module in pieces.layers.items())


def test_a_start_is_timed_from_where_the_model_was_moved_to_in_every_round(opened: Checkpoint) -> None:
    pieces = made(opened)
    pieces.move()
    name, module = next(iter(pieces.layers.items()))
    begun, ended = [], []

    def action() -> None:
        begun.append(module.weight.detach().clone())
        pieces.actions["progressive"]()
        ended.append(module.weight.detach().clone())

    timed(action, 2, before=pieces.restore)
    assert torch.equal(begun[0], pieces.start[name].to(begun[0].dtype)) and torch.equal(*begun)
    assert not torch.equal(begun[0], ended[0]) and torch.equal(*ended)


def test_blame_moves_the_model_to_the_merge(opened: Checkpoint) -> None:
    blaming = Blaming(opened.config, {name: opened.read(name) for name in opened.tensors}, 4, 6, 2)
    name, module = next(iter(blaming.layers.items()))
    before = module.weight.detach().clone()
    for action in blaming.actions.values():
        action()
    assert (module.weight - before - blaming.delta[name]).abs().max() < 1e-5


def test_half_of_the_depth_is_a_model(opened: Checkpoint) -> None:
    config, tensors = half_depth(opened.config, {name: opened.read(name) for name in opened.tensors})
    half = Pieces(config, tensors, 4, 6, 2)
    assert 2 * half.size.weights == made(opened).size.weights


def test_a_pass_is_one_and_most_pieces_grow_with_rows_alone() -> None:
    assert predicted("pass", SIZE) == 1
    twice = replace(SIZE, rows=16)
    for name, piece in PIECES.items():
        grown = piece.operations(twice) / piece.operations(SIZE)
        fits = {"linear": grown == pytest.approx(2), "quadratic": grown > 2, "part": 1 < grown < 2}
        assert fits[piece.growth], name


def test_the_quadratic_part_of_a_cost_is_found() -> None:
    assert quadratic_share({n: 3.0 * n for n in (8, 16, 32)}) == pytest.approx(0, abs=1e-9)
    assert quadratic_share({n: 2.0 * n + n * n for n in (8, 16, 32)}) == pytest.approx(32 / 34)
    assert quadratic_share({n: 5.0 + n for n in (8, 16, 32)}) == 0
    with pytest.raises(ValueError, match="two numbers of rows"):
        quadratic_share({8: 1.0})


def test_growth_with_rows_and_depth() -> None:
    costs = {n: {"pass": 2.0 * n, "gram_identity": float(n * n)} for n in (8, 16, 32)}
    found = scaling(costs, {"pass": 16.0, "gram_identity": 128.0}, at=16)
    assert found["pass"] == {"rows": {"16/8": 2.0, "32/16": 2.0}, "quadratic_share": 0.0, "depth": 2.0}
    assert found["gram_identity"]["rows"] == {"16/8": 4.0, "32/16": 4.0}
    assert found["gram_identity"]["quadratic_share"] == 1.0


def test_the_table_has_a_line_for_every_piece() -> None:
    costs = {name: {"cpu": 1.0, "wall": 2.0, "megabytes": None} for name in ("pass", "step")}
    lines = table(compared(SIZE, costs))
    assert len(lines) == 3
    assert lines[1].split()[-5:] == ["2.00", "1.00", "1.00", "-", "0"]


def test_the_estimate_is_printed_with_both_starts() -> None:
    text = "\n".join(_estimate_lines(estimate(llama_8b())))
    assert "a start, three experts" in text and "a progressive start, three experts" in text and "a solve" in text


def test_the_estimate_of_8b_is_its_formulas() -> None:
    size = llama_8b()
    assert size.weights == 32 * 4096 * (4096 + 1024 + 1024 + 4096 + 3 * 14336)
    found = estimate(size, rate=1e14, double_rate=1e11)
    row = 6 * size.weights * size.tokens + 4 * size.vocabulary * size.hidden * size.answers
    assert found["solve"]["descent"] == pytest.approx(100 * 22 * row)
    forward = 2 * size.weights * size.tokens + 2 * size.vocabulary * size.hidden * size.answers
    assert found["solve"]["merits"] == pytest.approx((2 + 4 + 3) * 80 * forward)
    whole = 2 * size.weights * size.tokens + 2 * size.vocabulary * size.hidden * size.tokens
    assert found["solve"]["trust"] == pytest.approx(80 * ((4 + 3) * forward + (2 + 4 + 3) * whole))
    parts = ("start", "descent", "merits", "trust", "restoring")
    single, double = sum(found["solve"][name] for name in parts), found["solve"]["start_double"]
    assert found["solve"]["operations"] == pytest.approx(single + double)
    assert found["solve"]["seconds"] == pytest.approx(single / 1e14 + double / 1e11)
    assert found["solve"]["gigabytes"] == pytest.approx((2 * (size.weights + 128_256 * 4096) + 24 * size.weights) / 1e9)


def test_the_estimate_of_a_start_at_8b_is_of_four_teachers_with_64_rows_each() -> None:
    size, narrow, wide = llama_8b(), 4096, 14336
    found = estimate(size)["solve"]
    rows, rounds, layers = 4 * 64, 2, 32
    assert found["start"] == pytest.approx(rounds * rows * 64 * 2 * (size.weights + 128_256 * narrow))
    grams = 2 * rows * 64 * (3 * narrow**2 + wide**2)  # of what goes into q, k, v; into o; into gate, up; into down
    one = 2 * size.weights / layers - 2 * narrow * wide  # but down
    products = one * narrow + 2 * narrow * wide * wide
    factored = 2 / 3 * (6 * narrow**3 + wide**3)
    assert found["start_double"] == pytest.approx(rounds * layers * (grams + (3 + 1) * products + factored))
    charts, moves = 4 * (6 * narrow**2 + wide**2), 4 * size.weights / layers
    held = layers * (charts + moves + 8 * (3 * narrow**2 + wide**2))
    kept = 2 * (size.weights + 128_256 * narrow) + 4 * size.weights
    assert found["start_gigabytes"] == pytest.approx((held + kept) / 1e9)


def test_the_estimate_of_the_progressive_start_at_8b() -> None:
    size, narrow, keys, wide, layers = llama_8b(), 4096, 1024, 14336, 32
    found = estimate(size)["progressive"]
    tokens = 4 * 64 * 64
    attention, mlp = 2 * narrow * (narrow + keys), 3 * narrow * wide  # weights of one block
    reached = attention - narrow**2  # query, key and value, on the way to attention's output
    reached += attention + attention + 2 * narrow * wide  # on the way to gate and up, and to down
    whole = 4 * 32 - 1 + 32 * 8 / (4 * 64)  # of a block: the entering pass is one short, a batch gives the order
    forwards = 2 * tokens * (whole * (attention + mlp) + layers * reached)
    grams = 2 * tokens * (3 * narrow**2 + wide**2)  # of what goes into q, k, v; into o; into gate, up; into down
    assert found["float32"] == pytest.approx(layers * (grams + 2 * tokens * (attention + mlp)))
    assert found["operations"] == pytest.approx(forwards + found["float32"])
    factored = 2 / 3 * (6 * narrow**3 + wide**3)
    triangular = 2 * (attention + 2 * narrow * wide) * narrow + 2 * narrow * wide * wide
    assert found["double"] == pytest.approx(layers * (factored + triangular))
    outputs = 2 * narrow + 2 * keys + 2 * wide + narrow
    held = 2 * tokens * (2 * narrow + outputs) + 8 * wide * (wide + narrow) + 4 * size.weights
    kept = 2 * (size.weights + 128_256 * narrow) + 4 * size.weights
    assert found["gigabytes"] == pytest.approx((held + kept) / 1e9)


def test_the_page_on_costs_has_the_numbers_of_the_committed_run() -> None:
    found = jsonio.read(RESULTS)
    text = (RESULTS.parents[2] / "docs" / "alignmerge.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    shown = [row[2:] for row in rows if len(row) == 6]
    for name, one in found["rows"]["16"].items():
        if name != "pass":
            grown = found["scaling"][name]
            twice = f"{grown['rows']['16/8']:.2f}, {grown['rows']['32/16']:.2f}; {grown['depth']:.2f}"
            wanted = [f"{one['predicted']:.2f}", f"{one['passes']:.2f}", twice, f"{one['megabytes']:.0f}"]
            assert wanted in shown, name
    assert f"{found['blame']['passes']:.1f}; {found['blame']['passes_float32']:.1f} of its own float32" in text
    solve = found["estimate_8b"]["solve"]
    assert found["estimate_8b"] == estimate(llama_8b())
    single = solve["operations"] - solve["start_double"]
    assert f"| {single:.1e}, and the start's in float64 | {single / 2e14:.0f} s, and".replace("e+", "e") in text
    assert f"| the trust region, 16 forwards on 80 rows | {solve['trust']:.1e} |".replace("e+", "e") in text
    assert f"A pass of 16 rows took\n{found['rows']['16']['pass']['cpu']:.2f} s" in text
    assert found["machine"].split(",")[0] in text and found["others_share"] <= 0.05
