"""bfloat16 layers multiplied in float32 and rounded, against PyTorch's own products, on the same model and prompts.

    python benchmarks/products.py

Prediction, for a processor without bfloat16 products: some five times the tokens per second and as much for a pass
forward and backward, since single layers were seen to take five to ten times as long and little else is left. It was
3.8 and 16.6 times (results/products.json). On one that has them the command ends at once: nothing is replaced there.
Both ways run in alternating rounds in one process; ratios are of the medians. Equal answers say how often another order
of sums tips a greedy choice.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alignmerge import jsonio, products
from alignmerge.auditor.engines.base import Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.models import load_model
from alignmerge.suites.model import select
from alignmerge.suites.registry import SUITES

NEW_TOKENS, ROWS, ROW_TOKENS = 24, 8, 64
PROMPTS = 40  # at most: a suite without validation items gives none
WAYS = {"torch": nn.Linear, "rounded": products.RoundedLinear}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--machine", default="not stated")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "products.json")
    chosen = parser.parse_args()
    if not products.slow():
        parser.exit(message="this processor has bfloat16 products of its own: nothing is replaced\n")
    model, tokenizer = load_model("reference:smollm2-135m", on="cpu")
    engine = TransformersEngine(model, tokenizer)
    each = -(-PROMPTS // len(SUITES))
    asked = [one.prompt for suite in SUITES.values() for one in select(suite, "validation", each)][:PROMPTS]
    ids = torch.randint(1000, 40000, (ROWS, ROW_TOKENS), generator=torch.Generator().manual_seed(0))
    work: dict[str, Callable[[], Any]] = {
        "answers": lambda: [one.tokens for one in engine.generate(asked, Sampling(NEW_TOKENS))],
        "forward_backward": lambda: _gradients(model, ids),
    }
    seconds: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in work}
    found: dict[str, list[Any]] = {}
    for _ in range(chosen.rounds):
        for way, kind in WAYS.items():
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.__class__ = kind
            for name, run in work.items():
                begun = time.process_time()
                out = run()
                seconds[name][way].append(round(time.process_time() - begun, 2))
                if name == "answers":
                    found[way] = out
    result = {
        "ratio": {
            name: round(statistics.median(one["torch"]) / statistics.median(one["rounded"]), 2)
            for name, one in seconds.items()
        },
        "processor_seconds": seconds,
        "prompts": len(asked),
        "new_tokens": NEW_TOKENS,
        "rows": [ROWS, ROW_TOKENS],
        "equal_answers": sum(a == b for a, b in zip(*found.values(), strict=True)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": chosen.machine,
    }
    jsonio.write(chosen.output, result)
    print(f"torch's own products take so many times as long: {result['ratio']} ({chosen.output})")


def _gradients(model: Any, ids: torch.Tensor) -> None:
    """One pass forward and backward for the gradients of all weights."""
    with torch.enable_grad():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        torch.autograd.grad(loss, list(model.parameters()))


if __name__ == "__main__":
    main()
