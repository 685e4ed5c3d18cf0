"""Whether one engine asked a candidate and those it is compared with, and one version of the scorers read them.

It decides nothing; a reader must know.
"""

from collections.abc import Mapping
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord

# No part of an engine: what it tells beside its digest, what is compared elsewhere, and what a server calls the model.
_BESIDE = {"digest", "imported", "judge", "model", "repeats", "reported", "requests", "template"}
_LONGEST = 40


def engine_notes(records: Mapping[str, AuditRecord]) -> tuple[str, ...]:
    """One sentence for each record, by role, that another engine asked than the candidate's, with what differs."""
    mine = records["candidate"].engine
    found = {role: _differences(mine, record.engine) for role, record in records.items()}
    return tuple(
        f"candidate and {role} were asked in another way ({'; '.join(parts)}): what differs may be the engine's doing"
        for role, parts in found.items()
        if parts
    )


def reading_notes(records: Mapping[str, AuditRecord]) -> tuple[str, ...]:
    """One sentence for each record, by role, whose answers another version of the scorers read than the candidate's.

    Older records do not say which one it was; nothing is said of them.
    """
    mine = records["candidate"].software.get("scorers")
    theirs = {role: record.software.get("scorers") for role, record in records.items()}
    return tuple(
        f"another version of the scorers read the answers of {role} (scorers {_shown(mine)} and {_shown(other)}): "
        "audit it again"
        for role, other in theirs.items()
        if mine is not None and other not in (None, mine)
    )


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    if mine.get("digest") == theirs.get("digest"):
        return []
    # What only one of two kinds of engine has says nothing of the other.
    alike = mine.get("kind") == theirs.get("kind")
    names = sorted((mine.keys() | theirs.keys() if alike else mine.keys() & theirs.keys()) - _BESIDE)
    pairs = [(name, mine.get(name), theirs.get(name)) for name in names]
    return [f"{name} {_shown(one)} and {_shown(other)}" for name, one, other in pairs if one != other]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else "none" if value is None else jsonio.canonical(value).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
