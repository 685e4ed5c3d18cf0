"""What the pipeline hands a vLLM server."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.engines import CONTEXT, vllm_server


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
