"""Seconds of an audit by AlignMerge's engines against lm-eval's hf backend, and whether they score items alike.

    python -m pip install -e '.[harness]'
    python -m benchmarks.audit [--gsm8k train.jsonl] [--mmlu test.csv] [--vllm-python PYTHON]

Both get the same loaded reference model (in bfloat16 unless --dtype says otherwise), the same batch size, the same
prompts in the model's chat template, greedy answers of the same length and the same scorers: the last number of an
answer (`flexible-extract`), and the likeliest of four letters. lm-eval runs from local task files, in the same process,
in alternating rounds. Each of its rounds is its `simple_evaluate` from built tasks; each of ours is the engine's
answers and their scores. Wall and processor time are both measured: on a machine that is busy with other work only the
second says something. lm-eval is also run at another batch size: in bfloat16 that alone changes some answers, and is
the floor for agreement.

With --vllm-python, a vLLM server of the same model is a further way of ours for the generated answers. Its start is not
counted but stated; its processor time is counted. It is asked as many requests at once as the others have rows in a
batch. Between its rounds it is idle; what it uses then is stated too.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from alignmerge import jsonio
from alignmerge.auditor.engines.base import DEFAULT_BATCH_SIZE, Engine, Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.engines.vllm_server import VLLMServer
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.models import load_model
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.engines import vllm_engine, vllm_server
from benchmarks.audit_items import LETTERS, choices, last_number, problems, write_tasks

MODEL = "reference:smollm2-135m"
OWN, SERVED = "alignmerge", "alignmerge vllm"
# A server runs a question anew for each of its choices: 60 of MMLU's took it half a minute.
SERVED_KINDS = ("generated",)
IDLE_SECONDS = 10.0


@dataclass(frozen=True)
class Timed:
    """Scores by item, 0 or 1, and what they took."""

    scores: list[float]
    wall: float
    cpu: float


def ours(engine: Engine, rows: list[dict[str, Any]], kind: str, tokens: int) -> list[float]:
    asked = [row["question"] for row in rows]
    if kind == "generated":
        answers = engine.generate(asked, Sampling(tokens))
        return [last_number(done.text.strip(), row["answer"]) for done, row in zip(answers, rows, strict=True)]
    pairs = [(prompt, letter) for prompt in asked for letter in LETTERS]
    found = engine.loglikelihood(pairs, end=False)
    groups = [found[start : start + 4] for start in range(0, len(found), 4)]
    return [float(group.index(max(group)) == row["answer"]) for group, row in zip(groups, rows, strict=True)]


def harness(
    model: Any, tokenizer: Any, folder: Path, kind: str, batch: int, softmax: str | None = None
) -> Callable[[], list[float]]:
    """One evaluation of a task file in `folder` by lm-eval; `softmax` is the dtype it normalises logits in."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, softmax_dtype=softmax)
    manager = TaskManager(include_path=str(folder), include_defaults=False)

    def run() -> list[float]:
        found = lm_eval.simple_evaluate(
            lm, tasks=[kind], task_manager=manager, apply_chat_template=True, bootstrap_iters=0
        )
        metric = "exact_match" if kind == "generated" else "acc"
        rows = sorted(found["samples"][kind], key=lambda row: row["doc_id"])
        return [float(row[metric]) for row in rows]

    return run


@dataclass(frozen=True)
class Clock:
    """Processor seconds of this process and of a server that works for it."""

    server: VLLMServer | None = None

    def cpu(self) -> float:
        return time.process_time() + self.of_server()

    def of_server(self) -> float:
        """User and system seconds of the server's whole process group so far."""
        if self.server is None or self.server.process is None:
            return 0.0
        used, group = 0, str(self.server.process.pid)
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = file.read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if fields[2] == group:
                used += int(fields[11]) + int(fields[12])
        return used / os.sysconf("SC_CLK_TCK")

    def timed(self, run: Callable[[], list[float]]) -> Timed:
        start, begun = time.perf_counter(), self.cpu()
        scores = run()
        return Timed(scores, time.perf_counter() - start, self.cpu() - begun)

    def idle(self) -> float:
        """The share of one core that the server uses when nobody asks it."""
        begun = self.of_server()
        time.sleep(IDLE_SECONDS)
        return round((self.of_server() - begun) / IDLE_SECONDS, 3)


def ratios(seconds: Mapping[str, Sequence[Mapping[str, float]]], part: str) -> dict[str, dict[str, float]]:
    """lm-eval's seconds over those of each of our engines; the least of the rounds, since other work only adds."""
    least = {name: min(run[part] for run in found) for name, found in seconds.items()}
    mine = [name for name in seconds if name in (OWN, SERVED)]
    return {one: {name: round(least[name] / least[one], 2) for name in seconds if name not in mine} for one in mine}


def compare(runs: dict[str, list[Timed]]) -> dict[str, Any]:
    """Seconds of every round, their `ratios`, and shares of items with the same score."""
    mine = [name for name in runs if name in (OWN, SERVED)]
    others = [name for name in runs if name not in mine]

    def same(one: str, other: str) -> float:
        pairs = list(zip(runs[one][0].scores, runs[other][0].scores, strict=True))
        return round(sum(a == b for a, b in pairs) / len(pairs), 4)

    seconds = {
        name: [{"wall": round(run.wall, 2), "processor": round(run.cpu, 2)} for run in found]
        for name, found in runs.items()
    }
    return {
        "seconds": seconds,
        "mean_score": {name: round(statistics.mean(found[0].scores), 4) for name, found in runs.items()},
        "ratio_wall": ratios(seconds, "wall"),
        "ratio_processor": ratios(seconds, "processor"),
        "same_score": {one: {name: same(one, name) for name in others} for one in mine},
        "same_score_lm_eval_with_itself": same(others[0], others[1]),
        "same_score_our_engines": same(*mine) if len(mine) > 1 else None,
    }


@dataclass
class Benchmark:
    """The same items asked in every way, in alternating rounds."""

    batch: int
    other_batch: int
    tokens: int
    rounds: int
    rows: dict[str, list[dict[str, Any]]]
    softmax: str | None = None
    dtype: str = "bfloat16"

    def run(self, vllm_python: str | None) -> dict[str, Any]:
        """Comparisons by kind of item, and what is known of the server."""
        model, tokenizer = load_model(MODEL, self.dtype)
        engines: dict[str, Engine] = {OWN: TransformersEngine(model, tokenizer, batch_size=self.batch)}
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_tasks(folder, self.rows, self.tokens)
            clock, told = Clock(), None
            if vllm_python is not None:
                engines[SERVED], clock, told = self._server(vllm_python, stack)
            result: dict[str, Any] = {}
            for kind, items in self.rows.items():
                ways: dict[str, Callable[[], list[float]]] = {
                    name: lambda one=one, kind=kind, items=items: ours(one, items, kind, self.tokens)
                    for name, one in engines.items()
                    if name != SERVED or kind in SERVED_KINDS
                }
                for batch in (self.batch, self.other_batch):
                    ways[f"lm_eval batch {batch}"] = harness(model, tokenizer, folder, kind, batch, self.softmax)
                result[kind] = compare(self._rounds(kind, ways, clock))
        return {**result, "server": told}

    def _server(self, python: str, stack: ExitStack) -> tuple[Engine, Clock, dict[str, Any]]:
        checkpoint = open_checkpoint(MODEL)
        plan = AuditPlan(engine="vllm", batch_size=self.batch, vllm_python=python, dtype=self.dtype)
        start = time.perf_counter()
        server = stack.enter_context(vllm_server(plan, checkpoint, checkpoint.folder))
        engine, clock = stack.enter_context(vllm_engine(plan, checkpoint, server)), Clock(server)
        told = {
            "version": server.version,
            "options": list(server.options),
            "settings": server.settings,
            "start_seconds": round(time.perf_counter() - start, 1),
            "cores_used_when_idle": clock.idle(),
        }
        return engine, clock, told

    def _rounds(self, kind: str, ways: dict[str, Callable[[], list[float]]], clock: Clock) -> dict[str, list[Timed]]:
        runs: dict[str, list[Timed]] = {way: [] for way in ways}
        for _ in range(self.rounds):
            for way, run in ways.items():
                runs[way].append(clock.timed(run))
                print(kind, way, f"{runs[way][-1].wall:.1f} s, {runs[way][-1].cpu:.1f} s of processor", flush=True)
        return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--batch", type=int, default=DEFAULT_BATCH_SIZE)
    parser.add_argument("--other-batch", type=int, default=DEFAULT_BATCH_SIZE // 4)
    parser.add_argument("--gsm8k", type=Path, help="a GSM8K .jsonl file; else the shipped arithmetic suite")
    parser.add_argument("--mmlu", type=Path, help="a .csv with question, choice0 to choice3, answer; else sums")
    parser.add_argument("--vllm-python", metavar="PYTHON", help="time a vLLM server of this interpreter as well")
    parser.add_argument("--dtype", default="bfloat16", help="what the model computes in")
    parser.add_argument("--softmax", metavar="DTYPE", help="what lm-eval normalises logits in (default: the model's)")
    parser.add_argument("--machine", default="not stated")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "audit.json")
    chosen = parser.parse_args()
    logging.disable_progress_bar()
    rows = {"generated": problems(chosen.gsm8k, chosen.items), "chosen": choices(chosen.mmlu, chosen.items)}
    benchmark = Benchmark(
        chosen.batch, chosen.other_batch, chosen.tokens, chosen.rounds, rows, chosen.softmax, chosen.dtype
    )
    result = benchmark.run(chosen.vllm_python)
    settings = {
        "items": chosen.items,
        "rounds": chosen.rounds,
        "batch": chosen.batch,
        "new_tokens": chosen.tokens,
        "dtype": chosen.dtype,
        "lm_eval_softmax": chosen.softmax or "the model's dtype",
        "generated_from": chosen.gsm8k.name if chosen.gsm8k else "arithmetic suite",
        "chosen_from": chosen.mmlu.name if chosen.mmlu else "sums",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": chosen.machine,
    }
    jsonio.write(chosen.output, {**result, "settings": settings})
    for kind in rows:
        print(kind, jsonio.canonical({key: value for key, value in result[kind].items() if key != "seconds"}).decode())


if __name__ == "__main__":
    main()
