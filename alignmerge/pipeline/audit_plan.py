"""What every checkpoint of a run is asked. Light: importing it loads no model library."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from alignmerge.auditor.engines.base import DEFAULT_BATCH_SIZE
from alignmerge.errors import UsageError
from alignmerge.pipeline.choices import DTYPES, EngineKind
from alignmerge.suites.continuations import LABELS
from alignmerge.suites.model import Split, Suite, select
from alignmerge.suites.registry import SUITES, get_suite

if TYPE_CHECKING:
    from alignmerge.auditor.record import AuditRecord
    from alignmerge.policies.model import Policy

# What a merge is asked; its policy may want more (`suites_for`).
DEFAULT_SUITES = ("refusal", "over_refusal", "arithmetic", "instructions", "units")
# What `alignmerge audit` asks.
AUDIT_SUITES = (*DEFAULT_SUITES, "continuations")


def suites_for(policy: "Policy") -> tuple[str, ...]:
    """The default suites, then the shipped ones that a rule or a wanted piece of evidence cannot do without."""
    metrics = [rule.metric for rule in policy.rules]
    metrics += LABELS if any(one.kind == "toxicity_classifier" for one in policy.required_evidence) else ()
    found = dict.fromkeys((*DEFAULT_SUITES, *(rule.suite for rule in policy.rules if rule.suite in SUITES)))
    for metric in metrics:
        holders = [suite.name for suite in SUITES.values() if metric in suite.metrics]
        if not found.keys() & set(holders):
            found |= dict.fromkeys(holders)
    return tuple(name for name in found if name is not None)


def suites_of(anchor: "AuditRecord | None") -> tuple[str, ...]:
    """What an audit asks that is told no suites: the shipped ones that its anchor's audit asked, so that the two can be
    compared; without an anchor, `AUDIT_SUITES`.
    """
    asked = tuple(suite.name for suite in anchor.suites if suite.name in SUITES) if anchor is not None else ()
    return asked or AUDIT_SUITES


def dtype_of(anchor: "AuditRecord | None") -> str:
    """What an audit computes in that is told no dtype: what its anchor's did, where one of ours is known."""
    found = anchor.engine.get("dtype") if anchor is not None else None
    return found if found in DTYPES else DTYPES[0]


@dataclass(frozen=True)
class AuditPlan:
    """What every checkpoint of a run is asked. `limit` is items per suite, None for all of the split.

    dtype: what models compute in (bfloat16 or float32). note: goes into every audit record. engine: what answers; the
    fields below it say where the server is, where vLLM is installed, how long a server may be silent (seconds) and how
    many requests it is sent at once (None: the usual). standin: the small stand-in for a toxicity
    classifier reads the answers too. data: where the rows of suites that bring none are, by suite name.
    """

    suites: tuple[str, ...] = DEFAULT_SUITES
    split: Split = "test"
    limit: int | None = None
    seed: int = 0
    dtype: str = "bfloat16"
    batch_size: int = DEFAULT_BATCH_SIZE
    note: str | None = None
    engine: EngineKind = "transformers"
    base_url: str | None = None
    model_name: str | None = None
    key_env: str | None = None
    vllm_python: str | None = None
    timeout: float | None = None
    concurrency: int | None = None
    standin: bool = False
    data: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def of(stored: str, limit: int | None = None, policy: "Policy | None" = None) -> "AuditPlan":
        """The plan for a recipe that stores weights in dtype `stored`: the weights that would ship are the ones asked.

        They are asked what `policy` needs. float16 is asked in float32, which holds its values exactly: on a CPU not
        every operation exists in float16.
        """
        suites = DEFAULT_SUITES if policy is None else suites_for(policy)
        if stored == "float16":
            note = "the merge stores float16 weights; models were asked in float32, which holds them exactly"
            return AuditPlan(suites, limit=limit, dtype="float32", note=note)
        return AuditPlan(suites, limit=limit, dtype=stored)

    def resolved(self) -> list[Suite]:
        """The suites by name; files are read once.

        Raises:
            UsageError: an unknown suite, data for a suite that is not asked.
            RecordError, IntegrityError, StorageError, EndpointError: the data of a suite cannot be used.
        """
        return list(self._suites)

    @cached_property
    def _suites(self) -> tuple[Suite, ...]:
        found = tuple(get_suite(name, dict(self.data)) for name in self.suites)
        stray = [name for name, _ in self.data if name.removesuffix(".shots") not in {suite.name for suite in found}]
        if stray:
            raise UsageError(f"--data {stray[0]}: no suite of that name is asked; add --suite {stray[0]}")
        return found

    def items(self) -> int:
        """How many items one audit asks."""
        return sum(len(select(suite, self.split, self.limit)) for suite in self.resolved())
