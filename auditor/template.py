"""A checkpoint's chat template, checked before use and rendered out of process (see sandbox.py)."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alignmerge.errors import UnsafeFormat

MAX_TEMPLATE_BYTES = 1_000_000
PROCESSOR_SECONDS = 2.0
SECONDS_PER_PROMPT = 0.002
MEMORY_BYTES = 512 * 1024 * 1024
OUTPUT_BYTES = 4_000_000
OUTPUT_BYTES_PER_PROMPT = 20_000
WALL_SECONDS = 120.0
TRIAL = "What is the capital of France?"


def clean(text: str) -> str:
    """`text` as valid Unicode: lone surrogates become U+FFFD, so it can be hashed, stored and sent."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


@dataclass(frozen=True)
class ChatTemplate:
    """A template and the special tokens it may name (`bos_token`, `eos_token`, ...)."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the template text."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()

    def render(self, prompts: Sequence[str]) -> list[str]:
        """The full text put to the model for each one-turn `prompts`, up to where the answer begins.

        Raises:
            UnsafeFormat: the template is over 1 MB, is not a template, reaches out of its sandbox, or needs more than
                its time, memory or output allowance. Nothing of it ran in this process.
        """
        if len(self.source.encode("utf-8", "surrogatepass")) > MAX_TEMPLATE_BYTES:
            raise UnsafeFormat(f"chat template: larger than {MAX_TEMPLATE_BYTES} bytes; no template needs that")
        seconds = PROCESSOR_SECONDS + SECONDS_PER_PROMPT * len(prompts)
        job = {
            "template": clean(self.source),
            "prompts": [clean(prompt) for prompt in prompts],
            "tokens": dict(self.tokens),
            "seconds": seconds,
            "wall_seconds": WALL_SECONDS + seconds,
            "memory_bytes": MEMORY_BYTES + 8 * sum(len(prompt) for prompt in prompts),
            "output_bytes": OUTPUT_BYTES + OUTPUT_BYTES_PER_PROMPT * len(prompts),
        }
        return _run(json.dumps(job).encode(), 2 * WALL_SECONDS + seconds)


def _run(job: bytes, limit_seconds: float) -> list[str]:
    child = Path(__file__).with_name("sandbox.py")
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(child)], input=job, capture_output=True, timeout=limit_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnsafeFormat("chat template: rendering did not end; use a checkpoint with a sound template") from None
    if done.returncode < 0:
        raise UnsafeFormat(
            f"chat template: rendering took more than {PROCESSOR_SECONDS:.0f} s or "
            f"{MEMORY_BYTES // 2**20} MB and was stopped (signal {-done.returncode})"
        )
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise UnsafeFormat(f"chat template: rendering failed (exit {done.returncode})") from None
    if "error" in result:
        raise UnsafeFormat(f"chat template: {result['error']}")
    return [str(text) for text in result["texts"]]


def check_template(source: str, tokens: Mapping[str, str] | None = None) -> str:
    """The template's digest, once it has rendered a trial prompt inside its limits.

    Raises:
        UnsafeFormat: as `ChatTemplate.render`, or the prompt does not appear in what it renders.
    """
    template = ChatTemplate(source, tokens or {})
    if TRIAL not in template.render([TRIAL])[0]:
        raise UnsafeFormat("chat template: it leaves out the user's message")
    return template.digest
