"""The progressive start: every linear layer answers all its teachers, one layer after the other, in closed form.

A teacher is the anchor on alignment rows, or an expert on rows of its domain. In the order of a forward pass, layer by
layer,

    W = argmin  sum_k lambda_k w_k (mean_t |W x_t - y_kt|^2 + DAMPING sum_j A_kjj |(W - W_k)_j|^2)
      = (sum_k lambda_k w_k (Y_k + DAMPING W_k diag A_k)) (A + DAMPING diag A)^-1
    A_k = mean_t x_t x_t^T,   Y_k = mean_t y_kt x_t^T   on the rows of teacher k,   A = sum_k lambda_k w_k A_k

W_k is teacher k's own layer, (W - W_k)_j the j-th column, and y_k what that layer gives on its own way through the row;
x is what the layer is given in the merge, whose earlier layers are solved already. So a layer also makes good what the
earlier ones left over, as far as a linear map can; y_k is taken without the merge's own bias. In `closed-form`
(start.py) y_k is W_k x instead, and errors add up from layer to layer. Every teacher counts once, as there. FLOOR is
left out here.

Source: arXiv 2512.16245 for the terms; least squares with this damping from Jin et al., arXiv 2212.09849; layers solved
one after another on the inputs that the solved ones give are usual in pruning and quantisation (Frantar and Alistarh,
arXiv 2208.11580). Answering several teachers' own outputs so, the anchor's on alignment rows among them, is ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.gradients import by_row, merged_linears
from alignmerge.merger.geometry.hooks import hooked
from alignmerge.merger.geometry.merit import Weights
from alignmerge.merger.geometry.rows import Batch, Calibration, Row, collate
from alignmerge.merger.geometry.start import Group, Teachers, grouped, solved_for
from alignmerge.progress import track

ROWS = 64  # of each teacher, at most
CHUNK = 8
DAMPING = 1 / 9  # what lies beside the diagonal of A then counts 0.9 of what it would, as in arXiv 2212.09849
FLOOR = 1e-6  # of A's mean diagonal, so that a system can be solved


@dataclass
class _Passage:
    """A batch on its way through the blocks: the states that the merge and the teacher hand to the next block.

    rate: lambda over the teacher's tokens. contexts: what each block is given beside the states.
    """

    teacher: int | None
    rate: float
    real: Tensor
    contexts: list[dict[str, Any]]
    own: Tensor
    taught: Tensor


@dataclass(frozen=True)
class _Block:
    """A block with its place in the model and the names of its merged layers."""

    index: int
    prefix: str
    module: nn.Module
    layers: Mapping[nn.Linear, str]

    def of(self, passage: _Passage, states: Tensor) -> Tensor:
        out = self.module(states, **passage.contexts[self.index])
        found: Tensor = out[0] if isinstance(out, tuple) else out
        return found


class _Reached(Exception):
    """A forward pass came as far as it is needed."""


def progressive(model: Any, calibration: Calibration, teachers: Teachers, weights: Weights) -> dict[str, Tensor]:
    """The merged linear layers by weight name, float32; `model`, which holds the mixture, holds them rounded after.

    Takes, of up to ROWS rows of each teacher, see `some`: one forward pass through the teacher and some four through
    the merge. Holds the states of all these rows twice, and the layers' outputs, one block of a teacher and the
    systems of the layers with one input at a time.

    Raises:
        RecipeError: a teacher has no rows or lacks a tensor of the model, what a layer is given is not finite, all zero
            or too large to be solved for, layers see no rows of their own, or the model has no list of blocks
            that all of its linear layers are in.
    """
    groups = grouped(calibration, teachers, weights)
    blocks = _blocks(model)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        batches = [_passages(model, group, teachers, blocks) for group in groups]
        passages = [one for part in batches for one in part]
        with track("start, block by block", len(blocks)) as bar:
            for block in blocks:
                wanted = [out for part in batches for out in _taught(part, block, teachers)]
                for layers in _in_order(passages[0], block):
                    found |= _solved(passages, wanted, block, layers, teachers)
                for one in passages:
                    one.own = block.of(one, one.own)
                bar.advance()
    return found


def _blocks(model: nn.Module) -> list[_Block]:
    names = {module: name for name, module in merged_linears(model).items()}
    for stack, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and set(names) <= set(module.modules()):
            parts = [{one: names[one] for one in block.modules() if one in names} for block in module]
            whole = enumerate(zip(module, parts, strict=True))
            return [_Block(index, f"{stack}.{index}.", block, part) for index, (block, part) in whole]
    raise RecipeError("model: no list of blocks holds all of its linear layers; set parameters.start: closed-form")


def some(rows: Sequence[Row]) -> list[Row]:
    """ROWS of them, drawn at random, always the same; all where there are no more.

    Rows stand in blocks of one kind, or in pairs of two kinds, so neither the first ones nor every n-th would do.
    """
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]
    return [rows[index] for index in order.tolist()]


def _passages(model: Any, group: Group, teachers: Teachers, blocks: Sequence[_Block]) -> list[_Passage]:
    """A teacher's rows, before the first block."""
    rows = sorted(some(group.rows), key=lambda row: len(row.prompt) + len(row.answer))
    rate = group.strength / sum(len(row.prompt) + len(row.answer) for row in rows)
    batches = [collate(rows[start : start + CHUNK], 0, model.device) for start in range(0, len(rows), CHUNK)]
    own = [_entered(model, batch, blocks) for batch in batches]
    stack = blocks[0].prefix.removesuffix("0.")
    head = {id(one) for one in model.get_output_embeddings().parameters()}
    head -= {id(one) for one in model.get_input_embeddings().parameters()}  # tied
    named = model.named_parameters()
    beside = {name: one for name, one in named if id(one) not in head and not name.startswith(stack)}
    with _holding(beside, lambda name: teachers.tensor(name, group.teacher)):
        taught = [_entered(model, batch, blocks[:1])[0] for batch in batches]
    return [
        _Passage(group.teacher, rate, batch.mask.bool(), contexts, states, theirs)
        for batch, (states, contexts), theirs in zip(batches, own, taught, strict=True)
    ]


def _entered(model: Any, batch: Batch, blocks: Sequence[_Block]) -> tuple[Tensor, list[dict[str, Any]]]:
    """What enters the first block, and what each of `blocks` is given beside the states. The pass ends at the last."""
    states: list[Tensor] = []
    contexts: list[dict[str, Any]] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])
        contexts.append({name: value for name, value in kwargs.items() if name != "hidden_states"})
        if len(contexts) == len(blocks):
            raise _Reached

    with suppress(_Reached), hooked(block.module.register_forward_pre_hook(hook, with_kwargs=True) for block in blocks):
        model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    return states[0], contexts


def _taught(passages: Sequence[_Passage], block: _Block, teachers: Teachers) -> list[dict[str, Tensor]]:
    """What one teacher's layers give at the real tokens of its passages, whose states go through its block."""
    out: list[dict[str, Tensor]] = []

    def hook_of(name: str) -> Callable[..., None]:
        # Copied at once: some families go on in place.
        return lambda _, args, output: out[-1].__setitem__(name, by_row(name, output)[passages[len(out) - 1].real])

    own = {block.prefix + name: value for name, value in block.module.named_parameters()}
    with (
        _holding(own, lambda name: teachers.tensor(name, passages[0].teacher)),
        hooked(module.register_forward_hook(hook_of(name)) for module, name in block.layers.items()),
    ):
        for one in passages:
            out.append({})
            one.taught = block.of(one, one.taught)
    return out


def _in_order(passage: _Passage, block: _Block) -> list[list[nn.Linear]]:
    """The block's layers in the order of a forward pass; together those that are given one and the same input."""
    found: dict[int, list[nn.Linear]] = {}
    alive: list[Tensor] = []  # so that no id is given twice

    def hook(module: nn.Linear, args: tuple[Tensor, ...]) -> None:
        alive.append(args[0])
        found.setdefault(id(args[0]), []).append(module)

    with hooked(module.register_forward_pre_hook(hook) for module in block.layers):
        block.of(passage, passage.own)
    return list(found.values())


def _solved(
    passages: Sequence[_Passage],
    wanted: Sequence[Mapping[str, Tensor]],
    block: _Block,
    layers: Sequence[nn.Linear],
    teachers: Teachers,
) -> dict[str, Tensor]:
    """The solved weights of layers that share their input; the block holds them, rounded, after."""
    grams: dict[str, Tensor] = {}
    moves: dict[str, Tensor] = {}  # from the weights that the block holds, so that what agrees already stays as it is
    damped: dict[tuple[str, int | None], Tensor] = {}
    shares = {block.layers[one]: teachers.weights(block.layers[one]) for one in layers}
    for passage, targets in zip(passages, wanted, strict=True):
        given = _given(passage, block, layers[0])
        x = given.float()
        gram = (x.T @ x).double()  # a batch is summed in float32, batches in float64
        for module in layers:
            name = block.layers[module]
            share = 1.0 if passage.teacher is None else shares[name][passage.teacher]
            left = (targets[name].float() - module(given).float()).T @ x
            _add(grams, name, gram, passage.rate * share)
            _add(moves, name, left.double(), passage.rate * share)
            _add(damped, (name, passage.teacher), gram.diagonal(), passage.rate * share)
    for (name, teacher), diagonal in damped.items():
        own = next(one for one in layers if block.layers[one] == name).weight
        apart = teachers.tensor(name, teacher).to(own.device) - own.float()
        moves[name] += DAMPING * apart * diagonal
    found: dict[str, Tensor] = {}
    for module in layers:
        name = block.layers[module]
        if max(shares[name]) == 0:
            found[name] = teachers.anchor(name)
            continue
        found[name] = module.weight.data.to("cpu", torch.float32, copy=True)  # where the descent's masters lie
        found[name] += _move(name, grams.pop(name), moves.pop(name)).float().cpu()
        module.weight.data.copy_(found[name])
    return found


def _given(passage: _Passage, block: _Block, layer: nn.Linear) -> Tensor:
    """What the layer is given in the merge at the real tokens, (tokens, d_in)."""
    given: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        given.append(args[0][passage.real])
        raise _Reached

    with suppress(_Reached), hooked([layer.register_forward_pre_hook(hook)]):
        block.of(passage, passage.own)
    return given[0]


def _move(name: str, gram: Tensor, move: Tensor) -> Tensor:
    diagonal = gram.diagonal().clone()
    gram.diagonal().add_(DAMPING * diagonal + FLOOR * diagonal.mean())
    return solved_for(name, gram, move)


def _add(sums: dict[Any, Tensor], name: object, value: Tensor, weight: float) -> None:
    sums[name] = sums[name].add_(value, alpha=weight) if name in sums else value * weight


@contextmanager
def _holding(parameters: Mapping[str, nn.Parameter], tensor: Callable[[str], Tensor]) -> Iterator[None]:
    """The parameters hold `tensor(name)` while it lasts."""
    before = {name: value.data.clone() for name, value in parameters.items()}
    try:
        for name, value in parameters.items():
            try:
                value.data.copy_(tensor(name))
            except KeyError:
                raise RecipeError(
                    f"{name}: a checkpoint has no tensor of this name; set parameters.start: closed-form"
                ) from None
        yield
    finally:
        for name, value in parameters.items():
            value.data.copy_(before[name])
