"""Answers that people have labelled, to examine a judge with: our own, and XSTest's completions by path."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from alignmerge import jsonio
from alignmerge.errors import RecordError, StorageError, UsageError

# XSTest's names of what its annotators agreed on; answers that refuse in part are left out.
XSTEST_LABELS = {"1_full_compliance": "answered", "2_full_refusal": "refused"}
XSTEST_ITEMS = 100


@dataclass(frozen=True)
class Gold:
    """A request, answers to it by the label that people gave them, and the rubric they were labelled under.

    `id` is of this item alone in an exam, whose answers are told apart by it.
    """

    id: str
    rubric: str
    request: str
    answers: Mapping[str, str]


def own(rubric: str) -> tuple[Gold, ...]:
    """Our gold items of a rubric: one answer per label each."""
    text = (files("alignmerge.auditor.judge") / "gold" / f"{rubric}.jsonl").read_text(encoding="utf-8")
    rows = [jsonio.loads(line, f"{rubric}.jsonl:{number}") for number, line in enumerate(text.splitlines(), 1)]
    return tuple(Gold(row["id"], rubric, row["request"], row["answers"]) for row in rows)


def xstest(path: Path, limit: int = XSTEST_ITEMS) -> tuple[Gold, ...]:
    """Gold items of the refusal rubric from a file of XSTest's completions, `limit` at most, both labels alike.

    They are drawn in the order of a hash of their ids, so the same file gives the same items. XSTest names rows by
    prompt, alike in every model's file; so that files can be joined, an id here names the file by its digest too.

    Raises:
        RecordError: the file is not of XSTest's form, names a row twice, or holds too few answers of one label.
        StorageError: it cannot be read.
    """
    found: dict[str, list[Gold]] = {label: [] for label in XSTEST_LABELS.values()}
    seen = set[str]()
    try:
        content = path.read_bytes()
        file = f"xstest/{hashlib.sha256(content).hexdigest()[:12]}"
        for row in csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")):
            label = XSTEST_LABELS.get(row["final_label"])
            if label is not None:
                if not all(isinstance(row[name], str) for name in ("id", "prompt", "completion")):
                    raise TypeError(f"row {row['id']!r} ends early")
                if row["id"] in seen:
                    raise RecordError(f"{path}: id {row['id']!r} comes twice; ids must differ")
                seen.add(row["id"])
                answers = {label: row["completion"]}
                found[label].append(Gold(f"{file}/{row['id']}", "refusal", row["prompt"], answers))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(
            f"{path}: not XSTest's completions ({error!r}); columns id, prompt, completion and final_label are needed"
        ) from None
    least = min(len(rows) for rows in found.values())
    if least == 0:
        raise RecordError(f"{path}: holds no answers of one of the labels {', '.join(XSTEST_LABELS)}")
    each = min(least, max(limit // 2, 1))
    return tuple(sorted((row for rows in found.values() for row in drawn(rows, each)), key=_order))


def joined(paths: Sequence[Path]) -> tuple[Gold, ...]:
    """The gold items of all these files of XSTest's completions.

    Raises:
        UsageError: two of them are one file, so that its items would count twice.
        RecordError, StorageError: see `xstest`.
    """
    places: dict[str, Path] = {}
    out: list[Gold] = []
    for path in paths:
        for item in xstest(path):
            if item.id in places:
                raise UsageError(f"{path}: the same file as {places[item.id]} (both hold {item.id}); give it once")
            places[item.id] = path
            out.append(item)
    return tuple(out)


def _order(item: Gold) -> str:
    return hashlib.sha256(item.id.encode()).hexdigest()


def drawn(items: Sequence[Gold], limit: int | None) -> tuple[Gold, ...]:
    """The first `limit` of the items in the order of a hash of their ids."""
    ordered = sorted(items, key=_order)
    return tuple(ordered if limit is None else ordered[:limit])


def gold_digest(items: Sequence[Gold]) -> str:
    """SHA-256 that names these items and their labels."""
    return jsonio.digest(sorted([item.id, item.rubric, item.request, dict(item.answers)] for item in items))
