"""The pieces of the geometry as callables on one model and its rows, so that each can be timed alone.

Rows are random token ids of fixed lengths: what they say changes no cost, and equal lengths leave no padding. The model
answers for the teacher and is then moved a little, so that residuals, drift and steps are not zero.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from alignmerge.merger.geometry import descent, solver
from alignmerge.merger.geometry.blame import finite_blame
from alignmerge.merger.geometry.budget import Budget
from alignmerge.merger.geometry.chart import Diagonal, Identity, gram
from alignmerge.merger.geometry.drift import answer_logs, finite_drift
from alignmerge.merger.geometry.fisher import diagonal_roots, inverse_metric
from alignmerge.merger.geometry.gradients import answer_logits, combine, merged_linears, trained
from alignmerge.merger.geometry.kfac import kfac_chart, kfac_factors
from alignmerge.merger.geometry.merit import Merit, Terms, Weights
from alignmerge.merger.geometry.progressive import progressive
from alignmerge.merger.geometry.residuals import linearised
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, answer_means, collate, measure
from alignmerge.merger.geometry.start import Teachers, closed_form
from alignmerge.merger.geometry.subspace import Margins, alignment_subspace, margins
from alignmerge.models import build_model
from alignmerge.progress import track
from benchmarks.geometry_size import Size

CHUNK, DAMPING, MOVE = 16, 0.3, 0.02
LAMBDAS = Weights(0.001, 1.0, 1.0, 10.0)
DESCENT_STEPS = 3
OVER = Terms(0.0, 1.0, 1.0, 1.0, 1.0, 1.0)
SKILL = "expert"
# Layers that are given the input of another one, by the last part of their names.
SHARING = ("k_proj", "v_proj", "up_proj")


class FreeMerit(Merit):
    """A merit that costs nothing and never falls: a step alone is timed, and always taken."""

    def __init__(self) -> None:
        pass

    def terms(self, model: Any, geo: float) -> Terms:
        return OVER


class Pieces:
    """One model with its rows. `size` says how large it all is; `run` times nothing, it only does a piece."""

    def __init__(
        self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], count: int, prompt: int, answer: int
    ) -> None:
        self.model = build_model(config, tensors, "bfloat16")
        self.layers = merged_linears(self.model)
        self.rows = measure(self.model, _rows(count, prompt, answer, int(config["vocab_size"])), pad=0)
        shapes = {name: (module.out_features, module.in_features) for name, module in self.layers.items()}
        vocabulary, hidden = int(config["vocab_size"]), int(config["hidden_size"])
        shared = frozenset(name for name in shapes if name.split(".")[-2] in SHARING)
        blocks = int(config["num_hidden_layers"])
        self.size = Size(shapes, vocabulary, hidden, count, prompt + answer, answer, shared=shared, blocks=blocks)
        self.logs = answer_logs(self.model, self.rows)
        self.delta = _noise(self.layers)
        # Built in `subspace` at the anchor and asked again in `coordinates`, as drift is.
        self._subspace: Any = None
        self._charts: dict[str, Any] = {"identity": Identity()}
        self._parts: Any = None

    @property
    def actions(self) -> dict[str, Callable[[], object]]:
        """Every piece by name, in the order in which they need each other."""
        return {
            "subspace": self._build_subspace,
            "coordinates": lambda: self._subspace.coordinates(self.delta),
            "pass": self._pass,
            "factors": self._factors,
            "gram_identity": lambda: self._gram("identity"),
            "fisher": self._fisher,
            "gram_diagonal": lambda: self._gram("diagonal"),
            "kfac": self._kfac,
            "gram_kfac": lambda: self._gram("kfac"),
            "step": self._step,
            "merit": self._merit,
            "finite_drift": lambda: finite_drift(self.model, self.rows, self.logs),
            "descent": self._descent,
            "restoring": self._restoring,
            # In a solve one of them comes first; here they are last, because they leave the model elsewhere. What is
            # to begin where a solve would is to be restored before.
            "start": lambda: closed_form(self.model, self._calibration(), self._teachers(), LAMBDAS),
            "progressive": lambda: progressive(self.model, self._calibration(), self._teachers(), LAMBDAS),
        }

    def move(self) -> None:
        """Leave the anchor; the pieces after `coordinates` belong to a merge. Its kept gradients go."""
        self._subspace = None
        with torch.no_grad():
            for name, module in self.layers.items():
                module.weight.add_(self.delta[name])
        self.start = {name: module.weight.detach().float() for name, module in self.layers.items()}

    def restore(self) -> None:
        """Back to where `move` led."""
        for name, module in self.layers.items():
            module.weight.data.copy_(self.start[name])

    def _build_subspace(self) -> None:
        self._subspace = None
        half = len(self.rows) // 4
        given: Margins = margins(self.rows[:half], self.rows[half : 2 * half])
        self._subspace = alignment_subspace(self.model, given, Identity(), pad=0)

    def _pass(self) -> None:
        weights = [module.weight for module in self.layers.values()]
        total: list[Tensor] = []
        with trained(self.model, self.layers):
            for start in range(0, len(self.rows), CHUNK):
                batch = collate(self.rows[start : start + CHUNK], 0)
                value = answer_means(answer_logits(self.model, batch), batch).sum()
                found = torch.autograd.grad(value, weights)
                total = [a.add_(b) for a, b in zip(total, found, strict=True)] if total else list(found)

    def _factors(self) -> None:
        self._parts = None
        batches = [self.rows[start : start + CHUNK] for start in range(0, len(self.rows), CHUNK)]
        self._parts = [linearised("divergence", self.model, collate(b, 0), b, self.layers)[0] for b in batches]

    def _gram(self, chart: str) -> Tensor:
        return gram(self._parts, list(self.layers), self._charts[chart])

    def _fisher(self) -> None:
        roots = diagonal_roots(self.model, self.rows, self.layers, pad=0, seed=0)
        self._charts["diagonal"] = Diagonal(inverse_metric(roots, DAMPING))

    def _kfac(self) -> None:
        found = kfac_factors(self.model, self.rows, self.layers, pad=0, seed=0)
        self._charts["kfac"] = kfac_chart(found, list(self.layers), DAMPING)

    def _step(self) -> float:
        """As a restoring step does it: the step of every layer, and its length."""
        weights = torch.full((len(self.rows),), 1e-3, dtype=torch.float64)
        chart = self._charts["identity"]
        return sum(chart.square(name, chart.ascend(name, combine(self._parts, name, weights))) for name in self.layers)

    def _merit(self) -> Terms:
        return Merit(self.rows, None, LAMBDAS, 0.05, kind="divergence", pad=0).terms(self.model, 0.0)

    def _teachers(self) -> Teachers:
        """One expert, which is the model as it was moved; reading teachers from files is left out."""
        return Teachers(
            sources=(SKILL,),
            tensor=self._tensor,
            task_vector=lambda name, index: self.delta[name],
            weights=lambda name: (1.0,),
        )

    def _tensor(self, name: str, index: int | None) -> Tensor:
        if name in self.start:
            return self.start[name] if index is not None else self.start[name] - self.delta[name]
        return self.model.get_parameter(name).detach().float()

    def _calibration(self) -> Calibration:
        return Calibration(tuple(self.rows), (), 0)

    def _descent(self) -> None:
        """DESCENT_STEPS steps over all rows each; what a descent copies once is spread over them."""
        settings = descent.Settings(LAMBDAS, steps=DESCENT_STEPS, batch_rows=len(self.rows), stretches=1)
        shared: dict[str, Any] = {"merit": FreeMerit(), "budget": Budget(0.0, 10.0), "chart": self._charts["identity"]}
        work = descent.Descent(self.model, self.start, self._calibration(), settings, **shared)
        with track("descent steps", DESCENT_STEPS) as bar:
            work.run(OVER, bar)

    def _restoring(self) -> None:
        half = len(self.rows) // 2
        settings = solver.Settings(LAMBDAS, steps=1, alignment_rows=half, skill_rows=len(self.rows) - half)
        weights = {name: value.clone() for name, value in self.start.items()}
        shared: dict[str, Any] = {"merit": FreeMerit(), "budget": Budget(0.0, 10.0), "chart": self._charts["identity"]}
        self._parts = None
        work = solver.Solver(self.model, self.start, weights, self._calibration(), settings, **shared)
        with track("one restoring step", 1) as bar:
            work.run(OVER, bar)


class Blaming:
    """Finite blame and a pass, in float32 as `alignmerge blame` computes both."""

    def __init__(
        self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], count: int, prompt: int, answer: int
    ) -> None:
        self.model = build_model(config, tensors, "float32")
        self.layers = merged_linears(self.model)
        self.rows = _rows(count, prompt, answer, int(config["vocab_size"]))
        self.delta = _noise(self.layers)

    @property
    def actions(self) -> dict[str, Callable[[], object]]:
        return {"pass": self._pass, "blame": self._blame}

    def _pass(self) -> None:
        with trained(self.model, self.layers):
            batch = collate(self.rows, 0)
            value = answer_means(answer_logits(self.model, batch), batch).sum()
            torch.autograd.grad(value, [module.weight for module in self.layers.values()])

    def _blame(self) -> None:
        finite_blame(self.model, self.rows, self.delta, lambda name: {}, pad=0)


def _rows(count: int, prompt: int, answer: int, vocabulary: int) -> list[Row]:
    """Half of alignment, half of one expert; seeded."""
    drawn = torch.randint(3, vocabulary, (count, prompt + answer), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [Row(tuple(one[:prompt]), tuple(one[prompt:]), ALIGNMENT, 0.0) for one in drawn]
    return [row if place < count // 2 else replace(row, source=SKILL) for place, row in enumerate(rows)]


def _noise(layers: Mapping[str, torch.nn.Linear]) -> dict[str, Tensor]:
    """A random move of MOVE times each layer's own size, float32."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, module in layers.items():
        size = module.weight.detach().float().square().mean().sqrt()
        found[name] = MOVE * size * torch.randn(module.weight.shape, generator=generator)
    return found
