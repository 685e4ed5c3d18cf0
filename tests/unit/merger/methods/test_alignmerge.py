"""alignmerge as a method, on tiny checkpoints of five model families: what moves, what the record keeps, one digest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignmerge import jsonio
from alignmerge.errors import RecipeError, UsageError
from alignmerge.merger.geometry.residuals import KINDS
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, measure
from alignmerge.merger.geometry.validity import Ladder
from alignmerge.merger.ingredients import open_ingredients
from alignmerge.merger.methods import METHODS
from alignmerge.merger.methods.alignmerge import ALIGNMERGE, Materials, _teachers
from alignmerge.merger.recipe import Expert, Recipe, resolve
from alignmerge.merger.stream import merge, merge_in_memory, stage
from alignmerge.models import build_model
from alignmerge.reports.account import trace_rows
from tests.unit.merger.families import write_family

FAMILIES = ("llama3", "mistral", "qwen2", "phi3", "gemma2")
SHORT = {
    "scale": 1.0, "radius": 3e-4, "descent_steps": 6, "stretches": 3, "batch_rows": 6, "steps": 1, "alignment_rows": 4,
    "skill_rows": 2, "threads": 1, "budget": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Checkpoints of one family, and calibration of their own answers."""

    family: str
    root: Path
    materials: Materials

    def recipe(self, method: str = "alignmerge", **parameters: Any) -> Recipe:
        experts = tuple(Expert(str(self.root / name), "anchor", 0.5) for name in ("expert_a", "expert_b"))
        calibration = {} if "calibration" in METHODS[method].needs else None
        return resolve(Recipe(str(self.root / "anchor"), experts, method, parameters, calibration=calibration))


def made(family: str, root: Path) -> Case:
    write_family(family, root)
    config = jsonio.read(root / "anchor" / "config.json")

    def load(tensors: Any) -> Any:
        return build_model(config, tensors, "bfloat16")

    def rows(role: str, source: str, seed: int, count: int) -> list[Row]:
        draw = torch.randint(3, 60, (count, 8), generator=torch.Generator().manual_seed(seed)).tolist()
        given = [Row(tuple(line[:5]), tuple(line[5:]), source, 0.0) for line in draw]
        return measure(load(load_file(root / role / "model.safetensors")), given, pad=0)

    calibration = Calibration(
        (
            *rows("anchor", ALIGNMENT, 0, 96),
            *rows("expert_a", f"expert {root / 'expert_a'}", 1, 48),
            *rows("expert_b", f"expert {root / 'expert_b'}", 2, 48),
        ),
        tuple(rows("anchor", ALIGNMENT, 3, 6)),
        0,
        skill_validation=(
            *rows("expert_a", f"expert {root / 'expert_a'}", 4, 3),
            *rows("expert_b", f"expert {root / 'expert_b'}", 5, 3),
        ),
    )
    return Case(family, root, Materials(calibration, load, Ladder(lambda share: None)))


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made("llama3", tmp_path_factory.mktemp("llama3"))


@pytest.mark.parametrize(
    ("start", "residual"),
    [
        ("closed-form", "divergence"),
        ("closed-form", "sharp"),
        ("progressive", "divergence"),
        ("closed-form", "hellinger"),
    ],
)
def test_every_family_moves_its_linear_layers_alone_towards_its_teachers(case: Case, start: str, residual: str) -> None:
    account: dict[str, Any] = {}
    knobs = {**SHORT, "radius": 3e-4, "batch_rows": 48, "start": start, "residual": residual}
    found = merge_in_memory(case.recipe(**knobs), materials=case.materials, account=account)
    mixture = merge_in_memory(case.recipe("task_arithmetic", scale=1.0))
    moved = {name for name, value in found.items() if not torch.equal(value, mixture[name])}
    assert moved == {name for name in found if name.endswith("proj.weight")}
    assert len(moved) == 2 * (4 if case.family == "phi3" else 7)
    lines = trace_rows({"account": account})
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [line["phase"] for line in account["trace"]["steps"]][:3] == ["mixture", "start", "descent"]
    kept = [line["merit"] for line in account["trace"]["steps"] if line.get("kept", 1)]
    assert kept == sorted(kept, reverse=True) and kept[-1] < kept[0]
    assert account["trace"]["settings"]["start"] == start  # whether it is kept is chance on random rows
    assert jsonio.canonical(account) and account["trace"]["settings"]["descent"]["residual"] == residual


def test_teachers_are_the_experts_by_name_with_their_task_vectors_and_weights(llama: Case) -> None:
    root = llama.root
    experts = (Expert(str(root / "expert_a"), "base", 0.3), Expert(str(root / "expert_b"), "anchor", [0.25, 1.0]))
    base = str(root / "expert_b")  # any other model
    view = open_ingredients(resolve(Recipe(str(root / "anchor"), experts, "alignmerge", {}, base=base, calibration={})))
    known = _teachers(view)
    values = {role: load_file(root / role / "model.safetensors") for role in ("anchor", "expert_a", "expert_b")}
    assert {Path(one).name for one in known.sources} == {"expert_a", "expert_b"}
    for index, source in enumerate(known.sources):
        assert source == f"expert {root / Path(source).name}"
        role, start = ("expert_a", "expert_b") if source.endswith("expert_a") else ("expert_b", "anchor")
        for layer, name in enumerate(f"model.layers.{at}.self_attn.q_proj.weight" for at in (0, 1)):
            assert torch.equal(known.anchor(name), values["anchor"][name].float())
            assert torch.equal(known.tensor(name, index), values[role][name].float())
            moved = values[role][name].float() - values[start][name].float()
            assert torch.equal(known.task_vector(name, index), moved)
            assert known.weights(name)[index] == pytest.approx(0.3 if role == "expert_a" else (0.25, 1.0)[layer])


def test_one_digest_whatever_the_threads_outside(case: Case, tmp_path: Path) -> None:
    digests = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            done = merge(case.recipe(**SHORT), tmp_path / str(threads), materials=case.materials, workers=threads)
        finally:
            torch.set_num_threads(1)
        digests.add(done.record.tensor_digest)
    assert len(digests) == 1


def test_a_merge_that_was_interrupted_goes_on_to_the_same_bytes(llama: Case, tmp_path: Path) -> None:
    recipe, given = llama.recipe(**SHORT), {"materials": llama.materials, "shard_bytes": 20_000}
    whole = merge(recipe, tmp_path / "whole", materials_digest="a" * 64, **given)
    with stage(recipe, tmp_path / "out", materials_digest="a" * 64, **given) as staged:
        shards = sorted(path.name for path in staged.folder.glob("*.safetensors"))
    assert len(shards) > 2
    (tmp_path / "out.partial" / "checkpoint" / shards[1]).unlink()
    with pytest.raises(UsageError, match="unfinished merge with another"):
        merge(recipe, tmp_path / "out", materials_digest="b" * 64, **given)
    resumed = merge(recipe, tmp_path / "out", materials_digest="a" * 64, **given)
    assert resumed.record.tensor_digest == whole.record.tensor_digest
    for name in shards:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_knob_offers_every_residual_that_there_is() -> None:
    [knob] = [one for one in ALIGNMERGE.parameters if one.name == "residual"]
    assert knob.choices == KINDS


def test_without_steps_it_is_the_mixture_bit_for_bit(llama: Case) -> None:
    still = llama.recipe(**{**SHORT, "start": "mixture", "descent_steps": 0, "steps": 0})
    found = merge_in_memory(still, materials=llama.materials)
    wanted = merge_in_memory(llama.recipe("task_arithmetic", scale=1.0))
    assert all(torch.equal(found[name].view(torch.int16), value.view(torch.int16)) for name, value in wanted.items())


def test_knobs_reach_the_solve(llama: Case) -> None:
    knobs = {
        **SHORT, "residual": "likelihood", "lambda_geo": 0.5, "lambda_align": 2.0, "lambda_skill": 3.0,
        "lambda_bud": 4.0, "alignment_share": 0.25, "budget": 0.5, "budget_form": "soft", "metric": "fisher",
        "damping": 0.7,
    }  # fmt: skip
    account: dict[str, Any] = {}
    merge_in_memory(llama.recipe(**knobs), materials=llama.materials, account=account)
    kept = account["trace"]["settings"]
    weights = {"geo": 0.5, "align": 2.0, "skill": 3.0, "bud": 4.0}
    assert kept["weights"] == kept["descent"]["weights"] == kept["restore"]["weights"] == weights
    assert kept["descent"]["residual"] == kept["restore"]["residual"] == "likelihood"
    assert (kept["descent"]["radius"], kept["descent"]["steps"], kept["descent"]["stretches"]) == (3e-4, 6, 3)
    assert (kept["descent"]["batch_rows"], kept["descent"]["alignment_share"]) == (6, 0.25)
    assert (kept["restore"]["steps"], kept["restore"]["alignment_rows"], kept["restore"]["skill_rows"]) == (1, 4, 2)
    assert kept["start"] == "closed-form" and account["start"]["from"] == "closed-form"
    assert (kept["budget"], kept["metric"], kept["damping"], kept["threads"]) == (0.5, "fisher", 0.7, 1)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("residual", "cosine"), ("alignment_share", 1.5), ("stretches", 0), ("radius", -1e-5), ("lambda_geo", -1.0)],
)
def test_knobs_out_of_range_are_refused_by_name(llama: Case, knob: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=f"{knob}"):
        llama.recipe(**{knob: value})


def test_a_hard_budget_without_a_strength_is_refused(llama: Case) -> None:
    with pytest.raises(RecipeError, match=r"parameters\.lambda_bud"):
        llama.recipe(budget_form="hard", lambda_bud=0.0)
