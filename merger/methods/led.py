"""LED-Merging: of every update only the entries that matter for its own domain, and for no other model's.

Locate, elect, disjoint: an entry is an expert's where it is among the most important of its tensor both in the expert
and in the anchor on the expert's answers; entries that two claim go back to the anchor.

Notable decisions:
- The full text of the paper was not at hand: formulas and defaults are inferred from notes on it and its abstract.
- theta_0 is the anchor: experts must have been trained from it. The anchor itself claims what matters most for its
  answers where alignment is at stake (ours: the paper's safety expert has this part), with `anchor_density`; as its own
  update is zero, these entries stay as they are.
- Nothing is rescaled: at most `density` of an update is kept.
- Densities are shares per tensor. They are needed while models are loaded: only one byte per parameter is kept then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, View, moved
from alignmerge.merger.methods.coefficients import as_sum
from alignmerge.merger.tiles import row_elements

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.gathered import Gathered
    from alignmerge.merger.geometry.rows import Row


@dataclass(frozen=True)
class Claims:
    """Which entries the anchor claims, and then every expert: bool by tensor name; and what the record keeps."""

    anchor: "Mapping[str, Tensor]"
    experts: "tuple[Mapping[str, Tensor], ...]"
    account: Mapping[str, Any]


def gather(model: Any, rows: "Sequence[Row]", knobs: Knobs, seed: int) -> "dict[str, Tensor]":
    """Which parameters matter most for the rows' answers; see merger/geometry/scores.py."""
    from alignmerge.merger.geometry.rows import ALIGNMENT
    from alignmerge.merger.geometry.scores import most_important

    return most_important(model, rows, knobs["anchor_density" if rows[0].source == ALIGNMENT else "density"])


def gather_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """One byte per parameter."""
    return sum(map(prod, shapes.values()))


def prepare(view: View, knobs: Knobs) -> Claims:
    """What each model claims, elected: important in the expert and in the anchor on the expert's rows."""
    gathered: Gathered = view.materials
    names = [expert.name for expert in view.experts]
    elected = tuple(
        {key: here & gathered.anchor_on[name][key] for key, here in gathered.experts[name].items()} for name in names
    )
    claims = Claims(gathered.anchor, elected, {})
    shared = [key for key in view.names if key in claims.anchor]
    elements = sum(map(view.elements, shared))
    shares = []
    for index, one in enumerate(elected):
        own = sum(int(alone(claims, key, index).sum()) for key in shared)
        shares.append({"elected": sum(int(one[key].sum()) for key in shared) / elements, "kept": own / elements})
    return Claims(claims.anchor, elected, {"calibration": gathered.digest, "experts": shares})


def alone(claims: Claims, name: str, index: int, start: int = 0, stop: int | None = None) -> "Tensor":
    """Which entries of rows start to stop expert `index` claims and no other model does, bool."""

    def rows(value: "Tensor") -> "Tensor":
        return value[start:stop] if value.dim() else value

    mine = rows(claims.experts[index][name]) & ~rows(claims.anchor[name])
    for other, claimed in enumerate(claims.experts):
        if other != index:
            mine &= ~rows(claimed[name])
    return mine


def merge(tile: Tile, stats: Claims, knobs: Knobs) -> "Tensor":
    """theta_a + scale * sum_k w_k (M_k * tau_k), M_k = T_k less what any other model claims.

    T_k = top(|theta_k| sum |grad|) and top(|theta_a| sum |grad|), both on expert k's answers, per tensor. A tensor that
    is no parameter of the model stays the anchor's.
    Source: arXiv 2502.16770 (inferred, see above); the anchor's claim is ours.
    """
    import torch

    delta = torch.zeros_like(tile.anchor)
    if tile.name not in stats.anchor:
        return tile.anchor.clone()
    start = tile.offset // max(1, row_elements(tile.shape))
    stop = start + len(tile.anchor) if tile.shape else None
    zero = torch.zeros(())
    for index, weight in enumerate(tile.weights):
        mine = alone(stats, tile.name, index, start, stop)
        delta += torch.where(mine, tile.task_vector(index), zero).mul_(weight)
    return moved(tile.anchor, delta.mul_(knobs["scale"]))


def account(stats: Claims) -> dict[str, Any]:
    """The calibration's digest, and which share of all entries each expert was elected for and kept."""
    return dict(stats.account)


_SHARE = "Share of each tensor that an expert may claim (the paper: safety 0.1, math 0.4, code 0.5)."


def _density(name: str, default: float, text: str, per_expert: bool) -> Parameter:
    return Parameter(name, "number", default, text, low=0.0, high=1.0, per_expert=per_expert, scheduled=False)


LED = MergeMethod(
    name="led",
    summary="Keeps of every update the entries that matter for its own domain and for no other model's.",
    reference="LED-Merging, ACL 2025, arXiv 2502.16770",
    parameters=(
        _density(
            "density", 0.4, "Share of each tensor that an expert may claim (safety 0.1, math 0.4, code 0.5).", True
        ),
        _density("anchor_density", 0.1, "Share that the anchor claims; 0: none.", False),
        Parameter("scale", "number", 0.9, "Factor on the kept updates (alpha).", low=-10.0, high=10.0),
        Parameter("threads", "integer", 2, "CPU threads of the gradients; part of the recipe.", low=1, high=256),
    ),
    trained_from="anchor",
    needs=frozenset({"calibration"}),
    prepare=prepare,
    merge=merge,
    coefficients=as_sum,
    account=account,
    gather=gather,
    gather_bytes=gather_bytes,
    gather_again=True,
    gather_knobs=frozenset({"density", "anchor_density"}),
)
