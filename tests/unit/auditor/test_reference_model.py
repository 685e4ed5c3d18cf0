"""The engine and an audit on the real reference model."""

from pathlib import Path

import pytest

from alignmerge.auditor.audit import audit
from alignmerge.auditor.engines.base import Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.suites.registry import SUITES


@pytest.mark.model
def test_the_reference_model_answers_and_is_audited(reference_model: Path) -> None:
    from alignmerge.models import load_model

    model, tokenizer = load_model("reference:smollm2-135m")
    engine = TransformersEngine(model, tokenizer)
    answer = engine.generate(["What is the capital of France?"], Sampling(16))[0]
    assert "Paris" in answer.text
    right, wrong = engine.loglikelihood(
        [("What is the capital of France?", "Paris."), ("What is the capital of France?", "Stone.")]
    )
    assert right > wrong
    found = audit(
        engine,
        checkpoint="0" * 64,
        name="reference",
        suites=[SUITES["refusal"], SUITES["over_refusal"]],
        limit=8,
        aqi_fit_pairs=8,
    )
    rate, separation = found.result("refusal_rate"), found.result("aqi_log_j")
    assert rate is not None
    assert separation is not None
    assert (rate.scored, separation.scored) == (8, 8)
    assert separation.valid is None
    assert all(row.answer for row in found.items)
