"""A model on an accelerator, audited: answers, likelihoods and metrics as on the CPU, and a record that says so."""

import copy
from typing import Any

import torch

from alignmerge.auditor.audit import audit
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.suites.model import Suite
from tests.far_device import FAR, far


def test_an_audit_there_is_the_audit_here(tiny: tuple[Any, Any], suites: tuple[Suite, ...]) -> None:
    model, tokenizer = tiny
    near = audit(TransformersEngine(model, tokenizer), checkpoint="a" * 64, name="near", suites=suites)
    with far():
        engine = TransformersEngine(copy.deepcopy(model).to(FAR), tokenizer)
        found = audit(engine, checkpoint="a" * 64, name="far", suites=suites)
    assert found.items == near.items
    assert [one.metric for one in found.metrics] == [one.metric for one in near.metrics]
    for one, other in zip(found.metrics, near.metrics, strict=True):
        assert (one.value is None) == (other.value is None)
        if one.value is not None and other.value is not None:
            assert abs(one.value - other.value) <= 1e-3 * max(1.0, abs(other.value)), one.metric
    assert (found.engine["device"], near.engine["device"]) == ("meta", "cpu")
    assert found.engine["digest"] != near.engine["digest"]  # answers of two devices are kept apart


def test_likelihoods_and_states_there(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    pairs = [("one", "a"), ("one", "a long one"), ("two three", "b"), ("two three", "")]
    near = TransformersEngine(model, tokenizer)
    with far():
        engine = TransformersEngine(copy.deepcopy(model).to(FAR), tokenizer)
        found, there = engine.loglikelihood(pairs), engine.hidden_states(["one", "two three"]).cpu()
    torch.testing.assert_close(there, near.hidden_states(["one", "two three"]).cpu(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(near.loglikelihood(pairs)), rtol=1e-4, atol=1e-4)
