"""Tokens per second of AlignMerge's engine against transformers' own `generate`, on the same prompts and model.

    python benchmarks/engine.py

Both run the reference model in bfloat16 at the same batch size, prompts sorted by length, in alternating rounds; the
ratio is of the medians. Wall time and processor time are both measured: on a machine that is busy with other work only
the second says something. Tokens counted are those of the answers up to their end token. `generate` gets its prompts
as a user would send them (left-padded batches); what the engine adds is that the shared beginning of all prompts runs
once, that finished answers leave the batch, and that the memory of earlier tokens is not copied at every step.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from alignmerge import jsonio
from alignmerge.auditor.engines.base import DEFAULT_BATCH_SIZE, Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.models import load_model
from alignmerge.suites.model import select
from alignmerge.suites.registry import SUITES

NEW_TOKENS = 40
PROMPTS_PER_SUITE = 13


def prompts() -> list[str]:
    """A mix of the shipped suites, 64 prompts."""
    return [item.prompt for suite in SUITES.values() for item in select(suite, "validation", PROMPTS_PER_SUITE)][:64]


def ours(model: Any, tokenizer: Any, asked: list[str], batch: int) -> list[tuple[int, ...]]:
    found = TransformersEngine(model, tokenizer, batch_size=batch).generate(asked, Sampling(NEW_TOKENS))
    return [one.tokens for one in found]


def theirs(model: Any, tokenizer: Any, asked: list[str], batch: int) -> list[tuple[int, ...]]:
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
        for p in asked
    ]
    order = sorted(range(len(asked)), key=lambda place: len(texts[place]))
    out: dict[int, tuple[int, ...]] = {}
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        rows = tokenizer(
            [texts[place] for place in places],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        )
        with torch.inference_mode():
            ids = model.generate(**rows.to(model.device), max_new_tokens=NEW_TOKENS, do_sample=False)
        for place, row in zip(places, ids[:, rows["input_ids"].shape[1] :].tolist(), strict=True):
            end = tokenizer.eos_token_id
            out[place] = tuple(row[: row.index(end)] if end in row else row)
    return [out[place] for place in range(len(asked))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=DEFAULT_BATCH_SIZE)
    parser.add_argument("--machine", default="not stated")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "engine.json")
    chosen = parser.parse_args()
    logging.disable_progress_bar()
    model, tokenizer = load_model("reference:smollm2-135m")
    asked = prompts()
    speeds: dict[str, list[float]] = {"alignmerge": [], "transformers": []}
    work: dict[str, list[float]] = {"alignmerge": [], "transformers": []}
    answers: dict[str, list[tuple[int, ...]]] = {}
    for _ in range(chosen.rounds):
        for name, way in (("alignmerge", ours), ("transformers", theirs)):
            start, begun = time.perf_counter(), time.process_time()
            answers[name] = way(model, tokenizer, asked, chosen.batch)
            tokens = sum(map(len, answers[name]))
            speeds[name].append(tokens / (time.perf_counter() - start))
            work[name].append(tokens / (time.process_time() - begun))
    result = {
        "ratio_wall": _ratio(speeds),
        "ratio_processor": _ratio(work),
        "tokens_per_second": {name: [round(value, 1) for value in values] for name, values in speeds.items()},
        "tokens_per_processor_second": {name: [round(value, 1) for value in values] for name, values in work.items()},
        "prompts": len(asked),
        "new_tokens": NEW_TOKENS,
        "batch": chosen.batch,
        "equal_answers": sum(a == b for a, b in zip(*answers.values(), strict=True)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": chosen.machine,
    }
    jsonio.write(chosen.output, result)
    print(
        f"{result['ratio_wall']} times the tokens per second of transformers' generate, "
        f"{result['ratio_processor']} times per processor second ({chosen.output})"
    )


def _ratio(values: dict[str, list[float]]) -> float:
    return round(statistics.median(values["alignmerge"]) / statistics.median(values["transformers"]), 2)


if __name__ == "__main__":
    main()
