"""The engine that a plan names, ready to answer, and stopped afterwards whatever happens."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge import jsonio
from alignmerge.auditor.endpoint import Endpoint, Limits
from alignmerge.auditor.engines.openai_engine import OpenAIEngine
from alignmerge.auditor.engines.prompts import Encoder, template_of
from alignmerge.auditor.engines.served import Served
from alignmerge.auditor.engines.vllm_engine import VLLMEngine
from alignmerge.auditor.engines.vllm_server import VLLMServer, interpreter
from alignmerge.auditor.room import check_room
from alignmerge.cache import cache_dir
from alignmerge.errors import UsageError
from alignmerge.models import load_model, load_tokenizer
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.choices import CONCURRENCY
from alignmerge.pipeline.planning import asked
from alignmerge.progress import say

if TYPE_CHECKING:
    from alignmerge.merger.checkpoint import Checkpoint

# Prompts and answers of audits are short; a longer context costs memory for every request. Longer ones get what they
# need, up to what the model has.
CONTEXT = 4096
# A request may take so many times as long as a server may be silent: it is tried again.
PATIENCE = 5


@contextmanager
def served(plan: AuditPlan, checkpoint: "Checkpoint | None") -> Iterator[Served]:
    """The plan's engine over a server; its server, where it is ours, ends with the block.

    Raises:
        UsageError: the plan names no server or no model, vLLM is not there, or a prompt is too long for the model.
        EndpointError: the server does not start or does not answer.
    """
    with ExitStack() as stack:
        if plan.engine == "vllm":
            if checkpoint is None:
                raise UsageError("--engine vllm serves a checkpoint: name one as MODEL")
            yield _vllm(plan, checkpoint, stack)
        else:
            yield _openai(plan, checkpoint, stack)


def _openai(plan: AuditPlan, checkpoint: "Checkpoint | None", stack: ExitStack) -> OpenAIEngine:
    return OpenAIEngine(stack.enter_context(endpoint_of(plan)), "unknown" if checkpoint is None else "stated")


def endpoint_of(plan: AuditPlan) -> Endpoint:
    """The server that the plan names; nothing is asked yet.

    Raises:
        UsageError: URL or model are not named, or see Endpoint and Limits.
    """
    if plan.base_url is None or plan.model_name is None:
        raise UsageError("--engine openai needs --base-url and --model-name")
    limits = limits_of(plan.timeout, plan.concurrency or min(plan.batch_size, CONCURRENCY))
    return Endpoint(plan.base_url, plan.model_name, plan.key_env, limits)


def limits_of(timeout: float | None, concurrency: int | None) -> Limits:
    """The usual limits of a server, with the silence (seconds) and the requests at once that were named."""
    found = Limits() if concurrency is None else Limits(concurrency=concurrency)
    return found if timeout is None else replace(found, read=timeout, total=PATIENCE * timeout)


def _vllm(plan: AuditPlan, checkpoint: "Checkpoint", stack: ExitStack) -> VLLMEngine:
    needed = check_room(asked(plan), encoder_of(checkpoint), stated_context(checkpoint))
    server = stack.enter_context(vllm_server(plan, checkpoint, _folder(checkpoint, plan.dtype, stack), needed + 1))
    return stack.enter_context(vllm_engine(plan, checkpoint, server))


def encoder_of(checkpoint: "Checkpoint") -> Encoder:
    """How the checkpoint's prompts become token ids; no weights are read.

    Raises:
        UnsafeFormat: the chat template is missing.
        TokenizerMismatch: the tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(checkpoint)
    return Encoder(tokenizer, template_of(tokenizer))


def stated_context(checkpoint: "Checkpoint") -> int | None:
    """The context that the configuration states; None where it states none."""
    found = checkpoint.config.get("max_position_embeddings")
    return int(found) if found else None


def vllm_server(plan: AuditPlan, checkpoint: "Checkpoint", folder: Path, needed: int = 0) -> VLLMServer:
    """A server, not yet started, for the checkpoint whose whole model lies in `folder`.

    `needed` is how many tokens the longest prompt and its answer take, where they were counted.
    """
    context = max(CONTEXT, needed)
    return VLLMServer(
        folder=folder,
        python=interpreter(plan.vllm_python),
        dtype=plan.dtype,
        context=min(context, stated_context(checkpoint) or context),
        log=cache_dir() / "vllm" / f"{checkpoint.digest[:12]}.{os.getpid()}.log",
        say=say,
    )


@contextmanager
def vllm_engine(plan: AuditPlan, checkpoint: "Checkpoint", server: VLLMServer) -> Iterator[VLLMEngine]:
    """The engine over a server that runs."""
    tokenizer = load_tokenizer(checkpoint)
    silence = {} if plan.timeout is None else {"silence_seconds": plan.timeout}
    engine = VLLMEngine(server, tokenizer, end_tokens(checkpoint, tokenizer), plan.batch_size, **silence)
    try:
        yield engine
    finally:
        engine.close()


def _folder(checkpoint: "Checkpoint", dtype: str, stack: ExitStack) -> Path:
    """A folder that holds the whole model: its own, or for an adapter a copy with the update added, for as long."""
    if checkpoint.base is None:
        return checkpoint.folder
    say(f"writes {checkpoint.name} with its base for the server")
    (cache_dir() / "vllm").mkdir(parents=True, exist_ok=True)
    folder = stack.enter_context(tempfile.TemporaryDirectory(dir=cache_dir() / "vllm"))
    model, tokenizer = load_model(checkpoint, dtype, on="cpu")  # the server wants the GPU
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def end_tokens(checkpoint: "Checkpoint", tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer: those of the generation settings, of the configuration and of the tokenizer.

    Raises:
        UsageError: none is named.
    """
    settings = checkpoint.model_folder / "generation_config.json"
    generation = jsonio.read(settings) if settings.exists() else {}
    told = [owner.get("eos_token_id") for owner in (generation, checkpoint.config)]
    found = {
        token
        for value in [*told, tokenizer.eos_token_id]
        for token in (value if isinstance(value, list) else [value])
        if token is not None
    }
    if not found:
        raise UsageError("model and tokenizer name no end token: answers could never end")
    return frozenset(int(token) for token in found)
