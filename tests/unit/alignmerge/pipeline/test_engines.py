"""What the pipeline hands a vLLM server."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.auditor.endpoint import Limits
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.engines import CONTEXT, endpoint_of, limits_of, vllm_server


@pytest.mark.parametrize(
    ("config", "needed", "context"),
    [
        ({}, 0, CONTEXT),
        ({"max_position_embeddings": None}, 0, CONTEXT),
        ({"max_position_embeddings": 512}, 0, 512),
        ({}, CONTEXT + 9, CONTEXT + 9),
        ({"max_position_embeddings": 32768}, CONTEXT + 9, CONTEXT + 9),
        ({"max_position_embeddings": CONTEXT + 2}, CONTEXT + 9, CONTEXT + 2),
    ],
)
def test_a_server_gets_the_usual_context_or_what_is_needed_up_to_what_the_model_has(
    config: dict[str, Any], needed: int, context: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMERGE_CACHE", str(tmp_path))
    checkpoint: Any = SimpleNamespace(config=config, digest="0" * 64)
    server = vllm_server(AuditPlan(engine="vllm", vllm_python=sys.executable), checkpoint, tmp_path, needed)
    assert server.context == context


def test_the_limits_of_a_server_are_the_usual_ones_but_for_what_is_said() -> None:
    assert limits_of(None, None) == Limits()
    assert limits_of(Limits().read, Limits().concurrency) == Limits(), "the usual silence gives the usual whole"
    found = limits_of(900.0, 3)
    assert (found.read, found.total, found.concurrency) == (900.0, 4500.0, 3)
    plan = AuditPlan(engine="openai", base_url="http://127.0.0.1/v1", model_name="m")
    with endpoint_of(plan) as usual, endpoint_of(replace(plan, concurrency=40, timeout=7.0)) as told:
        assert (usual.limits.concurrency, usual.limits.read) == (16, 120.0)
        assert (told.limits.concurrency, told.limits.read) == (40, 7.0)
