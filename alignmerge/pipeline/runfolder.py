"""The folder a run leaves behind: every record by label, and run.json that names them.

    run.json  policy.yaml  report.html
    audits/LABEL/audit.json + items.jsonl    verdicts/LABEL[.POLICY].json    merges/LABEL.json    models/LABEL/

run.json is written last, so its presence means the run is complete.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignmerge import __version__, jsonio
from alignmerge.auditor import record
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import StorageError, UsageError
from alignmerge.policies.explain import rule_lines
from alignmerge.policies.schema import Policy
from alignmerge.policies.verdict import Verdict, to_statement

_FOLDERS = ("audits", "verdicts", "merges")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass
class RunFolder:
    """Writes the records of one run under `path`."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def start(self) -> None:
        """Make the folder.

        Raises:
            UsageError: it exists and is not empty, so records of two runs would mix.
            StorageError: it cannot be made.
        """
        try:
            if self.path.exists() and not self._resumable():
                raise UsageError(f"{self.path}: exists and is not empty; choose another folder or remove it")
            for name in _FOLDERS:
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be made: {error.strerror}") from None

    def _resumable(self) -> bool:
        """Whether the folder is empty or holds nothing but what an unfinished run left."""
        return self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= {*_FOLDERS, "models"}

    def add(
        self,
        label: str,
        role: str,
        audit: AuditRecord,
        *,
        merge: dict[str, Any] | None = None,
        verdict: Verdict | None = None,
        also: Sequence[Verdict] = (),
    ) -> None:
        """Keep the records of one checkpoint.

        Raises:
            UsageError: the label is taken or not a plain name.
        """
        if not _LABEL.fullmatch(label) or any(entry["label"] == label for entry in self.entries):
            raise UsageError(f"label {label!r}: use each label once, of letters, digits, '.', '_' and '-'")
        entry: dict[str, Any] = {"label": label, "role": role, "audit": f"audits/{label}", "verdict": None}
        record.save(audit, self.path / "audits" / label)
        if merge is not None:
            entry["merge"] = f"merges/{label}.json"
            jsonio.write(self.path / entry["merge"], merge)
        if verdict is not None:
            entry["verdict"] = self._verdict(f"verdicts/{label}.json", verdict)
        entry["also"] = [self._verdict(f"verdicts/{label}.{one.policy_name}.json", one) for one in also]
        self.entries.append(entry)

    def _verdict(self, name: str, verdict: Verdict) -> str:
        jsonio.write(self.path / name, to_statement(verdict))
        return name

    def finish(self, *, title: str, created: str, policy: Policy | None, notes: Sequence[str]) -> Path:
        """Path of run.json, which completes the run."""
        rows = []
        if policy is not None:
            rows = [
                {
                    **rule.model_dump(include={"metric", "limit", "severity"}),
                    "rule": rule.id,
                    "text": rule_lines(policy, rule)[0],
                }
                for rule in policy.rules
            ]
        value = {
            "schema": "alignmerge.run/1",
            "title": title,
            "created": created,
            "version": __version__,
            "policy": {"name": policy.name if policy else "none", "summary": rows},
            "entries": self.entries,
            "notes": list(notes),
        }
        jsonio.write(self.path / "run.json", value)
        return self.path / "run.json"
