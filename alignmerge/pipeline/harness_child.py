"""Runs tasks of lm-eval in a process of its own and leaves its result files in a folder.

    python -P harness_child.py REQUEST.json

It needs nothing of AlignMerge, so any Python that has lm-eval can run it, and the tasks' own code stays out of the
process that audits. Exit code 2: lm-eval is not there, or does not know a task; the last line says which.
"""

import json
import sys
from pathlib import Path
from typing import Any

NOT_POSSIBLE = 2


def main(request: Path) -> int:
    """The exit code, after doing what the request says.

    Its keys: model, dtype, tasks, include, limit, batch_size, seed, output.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        print(f"{sys.executable} has no usable lm-eval ({error}): pip install 'lm-eval[hf]>=0.4.13'")
        return NOT_POSSIBLE
    wanted = json.loads(request.read_text(encoding="utf-8"))
    manager = TaskManager(include_path=wanted["include"])
    unknown = [name for name in wanted["tasks"] if not manager.match_tasks([name])]
    if unknown:
        print(f"lm-eval knows no task {', '.join(unknown)}; `lm-eval ls tasks` lists them")
        return NOT_POSSIBLE
    _evaluate(wanted, manager)
    return 0


def _evaluate(wanted: dict[str, Any], manager: Any) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=wanted["output"])
    results = simple_evaluate(
        model="hf",
        device=wanted["device"],
        model_args={"pretrained": wanted["model"], "dtype": wanted["dtype"], "trust_remote_code": False},
        tasks=wanted["tasks"],
        batch_size=wanted["batch_size"],
        limit=wanted["limit"],
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        log_samples=True,
        evaluation_tracker=tracker,
        task_manager=manager,
        random_seed=wanted["seed"],
        numpy_random_seed=wanted["seed"],
        torch_random_seed=wanted["seed"],
        fewshot_random_seed=wanted["seed"],
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
