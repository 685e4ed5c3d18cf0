"""The study's command line; see the package's text."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import benchmarks.study as study_package  # noqa: E402
from alignmerge.errors import AlignMergeError, UsageError  # noqa: E402
from benchmarks.study import cells, jobs  # noqa: E402
from benchmarks.study.design import (  # noqa: E402
    CONTROLS,
    FAMILIES,
    METHODS,
    SEEDS,
    SETS,
    SETTINGS,
)

if TYPE_CHECKING:
    from benchmarks.study.external import StudyPlan
    from benchmarks.study.job import Job
    from benchmarks.study.tuning import Tuned

DOCS = ROOT / "docs" / "study.md"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line.

    Raises:
        UsageError: a name that the design does not hold.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=study_package.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("build", "tune", "run", "controls", "defaults", "sweep", "table", "docs"))
    parser.add_argument("--zoo", type=Path, help="folder of built experts: {anchor,reference}-seed{0,1,2}/NAME")
    parser.add_argument("--data", type=Path, help="folder of the test-only sets with their MANIFEST.json")
    parser.add_argument("--settings", default="main", help=f"of {','.join(SETTINGS)} (default: main)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sets", default="all", help=f"of {','.join(SETS)}")
    parser.add_argument("--methods", default="all", help="methods, controls or families, as the command takes them")
    parser.add_argument("--controls", default="", help="run: controls to make on the same inputs")
    parser.add_argument("--families", default="", help="run: frontier families to make on the same inputs")
    parser.add_argument("--limit", type=int, help="items per suite, for smoke runs")
    parser.add_argument("--results", type=Path, default=cells.RESULTS)
    parser.add_argument("--store", type=Path, help="where answers are kept between runs (default: the shared cache)")
    parser.add_argument(
        "--records", type=Path, help="keep the audit records of what is measured now as runs for `alignmerge report`"
    )
    parser.add_argument("--machine", help="words for the machine, kept in every cell")
    parser.add_argument("--again", action="store_true", help="measure cells that are there")
    parser.add_argument("-o", "--output", type=Path, default=DOCS, help="docs: the page (default: docs/study.md)")
    chosen = parser.parse_args(given)
    chosen.settings = names(chosen.settings, SETTINGS, "setting")
    chosen.sets = names(chosen.sets, SETS, "set")
    known = {"controls": CONTROLS, "sweep": FAMILIES}.get(chosen.command, METHODS)
    chosen.methods = names(chosen.methods, known, "method")
    chosen.controls = names(chosen.controls, CONTROLS, "control") if chosen.controls else []
    chosen.families = names(chosen.families, FAMILIES, "family") if chosen.families else []
    chosen.seeds = [int(name) for name in names(chosen.seeds, map(str, SEEDS), "seed")]
    if chosen.command in ("run", "controls", "defaults", "sweep") and chosen.data is None:
        raise UsageError(f"{chosen.command}: --data is needed: the folder of the test-only sets")
    if chosen.command not in ("table", "docs") and chosen.zoo is None:
        raise UsageError(f"{chosen.command}: --zoo is needed: the folder of built experts")
    chosen.zoo = chosen.zoo and chosen.zoo.absolute()
    return chosen


def names(text: str, known: Iterable[str], what: str) -> list[str]:
    """The names in a comma list, "all" for every one.

    Raises:
        UsageError: one is not known.
    """
    every = list(known)
    found = every if text == "all" else text.split(",")
    for name in found:
        if name not in every:
            raise UsageError(f"no {what} {name!r}; there are: {', '.join(every)}")
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Carry out one command; the exit code."""
    try:
        chosen = arguments(given)
        {"build": build, "tune": tune, "table": table, "docs": docs}.get(chosen.command, measure)(chosen)
    except AlignMergeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def build(chosen: argparse.Namespace) -> None:
    """Train the experts that are missing; minutes each."""
    from alignmerge.zoo.build import build as train

    for setting in (SETTINGS[name] for name in chosen.settings):
        for seed in chosen.seeds:
            folder = chosen.zoo / f"{setting.folder}-seed{seed}"
            wanted = [] if setting.shipped and seed == 0 else list(SETS["three"])
            for name in (name for name in wanted if not (folder / name).exists()):
                train(
                    [name], folder, trained_from="reference" if setting.folder == "reference" else "anchor", seed=seed
                )


def tune(chosen: argparse.Namespace) -> None:
    """Tune every method and freeze the choice."""
    from benchmarks.study.running import MACHINE, Study
    from benchmarks.study.tuning import Tuned, tune_setting, validation_plan

    plan = validation_plan(chosen.limit)
    study = Study(plan, chosen.zoo, chosen.results, chosen.store, chosen.machine or MACHINE, chosen.again)
    for setting in chosen.settings:
        tune_setting(study, Tuned(chosen.results / "tuned.json"), setting, chosen.methods)


def measure(chosen: argparse.Namespace) -> None:
    """Make the cells of `run`, `controls`, `defaults` or `sweep`."""
    from benchmarks.study.running import MACHINE, Study
    from benchmarks.study.tuning import Tuned

    study = Study(asked(chosen), chosen.zoo, chosen.results, chosen.store, chosen.machine or MACHINE, chosen.again)
    study.records = chosen.records
    tuned = Tuned(chosen.results / "tuned.json")
    for setting in chosen.settings:
        study.anchors_cell(setting)
        if chosen.command == "sweep":
            study.run(jobs.frontier(tuned, setting, chosen.seeds, chosen.methods))
        elif chosen.command == "controls":
            study.run(jobs.controls(tuned, setting, chosen.seeds, chosen.methods), jobs.norms(chosen.methods))
        elif chosen.command == "defaults":
            study.run(jobs.defaults(setting, chosen.seeds))
        else:
            study.run(_together(chosen, tuned, setting), jobs.norms(chosen.controls))
            for seed, name, model in jobs.experts(setting, chosen.seeds):
                study.expert(setting, seed, name, model)


def asked(chosen: argparse.Namespace) -> "StudyPlan":
    """What every cell is asked, points of the frontier too: all test items, unless the line cuts them."""
    from benchmarks.study.external import StudyPlan, external_suites

    return StudyPlan(split="test", limit=chosen.limit, extra=external_suites(chosen.data))


def _together(chosen: argparse.Namespace, tuned: "Tuned", setting: str) -> "list[Job]":
    """Merges, and the controls and frontier points that share their inputs, which are then gathered once."""
    work = jobs.merges(tuned, setting, chosen.seeds, chosen.sets, chosen.methods)
    work += jobs.controls(tuned, setting, chosen.seeds, chosen.controls)
    points = jobs.frontier(tuned, setting, chosen.seeds, chosen.families)
    return work + sorted(points, key=lambda job: job.label.rpartition(".")[2])  # a cut run has some of every family


def table(chosen: argparse.Namespace) -> None:
    """What is there, as plain lines."""
    from benchmarks.study.docs import lines

    print("\n".join(lines(cells.read_all(chosen.results))))


def docs(chosen: argparse.Namespace) -> None:
    """Write the page and its figure from the JSONs alone."""
    from benchmarks.study.docs import write

    for path in write(chosen.results, chosen.output):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
