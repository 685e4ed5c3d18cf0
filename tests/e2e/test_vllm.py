"""The reference model behind a real vLLM server; runs where ALIGNMERGE_VLLM_PYTHON names a Python that has vLLM."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from alignmerge.auditor.agreement import agreement
from alignmerge.auditor.audit import audit
from alignmerge.auditor.endpoint import Endpoint, Limits
from alignmerge.auditor.engines.base import Advance, Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.engines.vllm_engine import VLLMEngine
from alignmerge.auditor.engines.vllm_server import PYTHON_VARIABLE, VLLMServer, free_port
from alignmerge.auditor.judge.ask import JudgeServer
from alignmerge.auditor.judge.attacks import ATTACKS
from alignmerge.auditor.judge.exam import ExamLimits
from alignmerge.auditor.judge.judging import Judging
from alignmerge.auditor.record import AuditRecord
from alignmerge.auditor.store import CompletionStore
from alignmerge.errors import EndpointError
from alignmerge.merger.checkpoint import Checkpoint, open_checkpoint
from alignmerge.models import load_model
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.engines import vllm_engine, vllm_server
from alignmerge.suites.registry import SUITES
from tests.judges import MODEL, grading

pytestmark = [
    pytest.mark.model,
    pytest.mark.vllm,
    pytest.mark.skipif(PYTHON_VARIABLE not in os.environ, reason=f"{PYTHON_VARIABLE} names no Python with vLLM"),
]
PLAN = AuditPlan(engine="vllm", batch_size=8)
SUITE, REFUSAL = SUITES["arithmetic"], SUITES["refusal"]
ROOT = Path(__file__).resolve().parents[2]
JUDGED = 12
# Two servers share the cores here; the judge of a process of its own may still be importing when it is first asked.
PATIENT = Limits(concurrency=4, read=600.0, total=1200.0, tries=60, wait_cap=2.0)


@pytest.fixture(scope="module")
def checkpoint(reference_model: Path) -> Checkpoint:
    return open_checkpoint(str(reference_model))


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Iterator[VLLMEngine]:
    with ExitStack() as stack:
        server = stack.enter_context(vllm_server(PLAN, checkpoint, checkpoint.folder))
        yield stack.enter_context(vllm_engine(PLAN, checkpoint, server))


@pytest.fixture(scope="module")
def own(checkpoint: Checkpoint) -> TransformersEngine:
    return TransformersEngine(*load_model(checkpoint, "bfloat16"), batch_size=8)


def test_both_engines_see_the_same_model(engine: VLLMEngine, own: TransformersEngine) -> None:
    prompts = [item.prompt for item in SUITE.items("validation")[:6]]
    theirs, ours = engine.generate(prompts, Sampling(12)), own.generate(prompts, Sampling(12))
    # bfloat16 may break a tie otherwise; the first tokens of six answers do not all hang on one.
    assert sum(a.tokens[:2] == b.tokens[:2] for a, b in zip(theirs, ours, strict=True)) >= 4
    assert all(a.tokens and a.finish in ("stop", "length") for a in theirs)
    pairs = [(prompts[0], "Paris"), (prompts[1], "7"), (prompts[1], "I do not know.")]
    for end in (False, True):
        told, known = engine.loglikelihood(pairs, end=end), own.loglikelihood(pairs, end=end)
        assert told == pytest.approx(known, abs=0.6, rel=0.03)
    assert engine.describe()["template"] == own.describe()["template"]


def test_an_audit_agrees_with_our_own(engine: VLLMEngine, own: TransformersEngine) -> None:
    first, second = (audit(one, checkpoint="a" * 64, name="n", suites=[REFUSAL], limit=24) for one in (engine, own))
    rows = {row.metric: row for row in agreement(first, second)}
    assert 0.2 < rows["refusal_rate"].first < 1, "it refuses some and not all, so that two engines could differ"
    assert {row.items for row in rows.values()} == {24}
    assert all(row.same_scores >= 0.8 for row in rows.values())


def test_a_small_judge_served_by_a_second_vllm_fails_its_exam_and_its_metrics_are_unscored(
    engine: VLLMEngine, checkpoint: Checkpoint
) -> None:
    with (
        vllm_server(PLAN, checkpoint, checkpoint.folder) as second,
        Endpoint(second.url, second.name, limits=PATIENT) as endpoint,
    ):
        # So few gold answers that no lower bound reaches the usual floor: what fails here fails by its own verdicts.
        server = JudgeServer(endpoint, max_new_tokens=96)
        short = Judging(server, gold_limit=2, attacks=ATTACKS[:1], limits=ExamLimits(kappa=0.0), rubrics=("refusal",))
        found = judged(engine, short)
    assert second.url != engine.endpoint.base_url
    exam = found.graders["judge"]["exam"]
    assert exam["passed"] is False
    rows = [row for row in found.items if row.metric == "judged_refusal_rate"]
    assert [row.value for row in rows] == [None] * JUDGED
    assert all(str(row.unscored).startswith("the judge failed its exam") for row in rows)
    assert server.counts.total() == 2 * 2 + 1, "it was examined, and then asked nothing"
    assert not server.counts["fault"], "every reply of the exam could be read as a reply"


def test_answers_are_graded_one_by_one_by_a_judge_of_a_second_process(engine: VLLMEngine) -> None:
    """A judge that knows gold, and reads other answers by our phrases: its exam is whole, its limits the usual ones."""
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "tests.judges", str(port)], cwd=ROOT)
    try:
        with Endpoint(f"http://127.0.0.1:{port}/v1", MODEL, limits=PATIENT) as endpoint:
            found = judged(engine, Judging(JudgeServer(endpoint)))
    finally:
        child.kill()
        child.wait()
    assert found.graders["judge"]["exam"]["passed"] is True
    told, known = (
        {row.item: row.value for row in found.items if row.metric == name}
        for name in ("judged_refusal_rate", "refusal_rate")
    )
    assert len(told) == JUDGED
    assert set(told.values()) == {0.0, 1.0}
    assert told == known, "each verdict is about its own answer"


def judged(engine: VLLMEngine, judging: Judging) -> AuditRecord:
    graders = grading(judging, "a" * 64, [REFUSAL], answers=engine.endpoint)
    return audit(engine, checkpoint="a" * 64, name="n", suites=[REFUSAL], limit=JUDGED, graders=graders)


def test_killed_in_the_middle_and_served_again_nothing_is_lost_or_doubled(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    answers = 0
    servers: list[VLLMServer] = []

    def kill(count: int) -> None:
        nonlocal answers
        answers += count
        if answers == 20:
            running = servers[0].process
            assert running is not None
            os.killpg(running.pid, signal.SIGKILL)

    def served(store: CompletionStore, progress: Advance | None) -> AuditRecord:
        with vllm_server(PLAN, checkpoint, checkpoint.folder) as server:
            servers.append(server)
            with vllm_engine(PLAN, checkpoint, server) as one:
                named = {"checkpoint": "a" * 64, "name": "n"}
                return audit(one, **named, suites=[SUITE], limit=40, store=store, progress=progress)

    with CompletionStore(tmp_path / "answers.sqlite") as store:
        with pytest.raises(EndpointError, match="vLLM ended with code -9"):
            served(store, kill)
        assert 20 <= answers < 40
        found = served(store, None)
    assert found.engine["requests"]["answers"] == 40 - answers
    scored = [row.item for row in found.items if row.metric == "arithmetic_accuracy"]
    assert len(scored) == len(set(scored)) == 40
