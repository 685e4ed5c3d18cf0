"""What the pipeline hands a vLLM server."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.engines import CONTEXT, vllm_server


@pytest.mark.parametrize(("config", "context"), [({}, CONTEXT), ({"max_position_embeddings": None}, CONTEXT),
                                                 ({"max_position_embeddings": 512}, 512)])  # fmt: skip
def test_a_model_that_states_no_context_gets_the_usual_one(
    config: dict[str, Any], context: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMERGE_CACHE", str(tmp_path))
    checkpoint: Any = SimpleNamespace(config=config, digest="0" * 64)
    server = vllm_server(AuditPlan(engine="vllm", vllm_python=sys.executable), checkpoint, tmp_path)
    assert server.context == context
