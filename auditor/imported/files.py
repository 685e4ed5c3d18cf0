"""Which files of other tools belong together, and what each is."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from alignmerge import jsonio
from alignmerge.auditor.imported import inspect_ai, lm_eval
from alignmerge.auditor.imported.evidence import Directions, Imported, file_bytes
from alignmerge.errors import RecordError, UsageError

# inspect_ai's own format is a zip, today of members in Zstandard, which Python reads only from 3.14 on.
_ZIP = b"PK\x03\x04"


def read_files(paths: Sequence[Path], directions: Directions) -> list[Imported]:
    """Everything in the files, and in the folders' `*.json` and `samples_*.jsonl`; samples go with their results.

    A folder's `*.eval` is not passed over: what to do with it is said.

    Raises:
        UsageError: nothing to read, or a metric's direction is neither known nor given.
        RecordError: a file of another format (of an `.eval` log, the command that makes it JSON is named), or samples
            without their results.
        StorageError: a file cannot be read.
    """
    files = [file for path in paths for file in _expanded(path)]
    samples = [file for file in files if file.suffix == ".jsonl"]
    out = []
    for file in files:
        if file.suffix == ".jsonl":
            continue
        data = file_bytes(file)
        if data.startswith(_ZIP) or file.suffix == ".eval":
            name = shlex.quote(str(file))
            raise RecordError(
                f"{file}: an .eval log of inspect_ai; import the JSON that `inspect log convert {name} --to json "
                "--output-dir DIR` makes of it, or run with --log-format json"
            )
        value = jsonio.loads(data, str(file))
        if lm_eval.is_results(value):
            date = file.stem.removeprefix("results_")
            mine = [one for one in samples if one.parent == file.parent and one.stem.endswith(f"_{date}")]
            samples = [one for one in samples if one not in mine]
            out.append(lm_eval.read(file, mine, directions))
        elif inspect_ai.is_log(value):
            out.append(inspect_ai.read(file, directions))
        else:
            raise RecordError(f"{file}: neither results of lm-eval nor a JSON log of inspect_ai")
    if samples:
        raise RecordError(f"{samples[0]}: samples without the results file of the same run; give both")
    if not out:
        raise UsageError("no results file to import: give results_DATE.json of lm-eval or a JSON log of inspect_ai")
    return out


def _expanded(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # A log of which the JSON lies beside it has been converted.
    logs = [log for log in path.glob("*.eval") if not log.with_suffix(".json").exists()]
    return sorted([*path.glob("*.json"), *path.glob("samples_*.jsonl"), *logs])
