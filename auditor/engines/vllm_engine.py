"""vLLM as an engine: the same token ids in as our own engine sends, token ids out, over a server of this machine.

Notable decisions:
- Prompts go as token ids made by our own template and tokenizer, so a comparison with another engine compares
  computation alone, and a special token spelled inside a prompt stays text.
- vLLM may answer differently with the batch a request is in; `repeats` in the record tells what was seen.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from alignmerge.auditor.endpoint import Endpoint, Limits
from alignmerge.auditor.engines.base import DEFAULT_BATCH_SIZE, Completion, Sampling
from alignmerge.auditor.engines.prompts import Encoder, template_of
from alignmerge.auditor.engines.served import Served
from alignmerge.auditor.engines.vllm_server import VLLMServer
from alignmerge.auditor.template import check_template
from alignmerge.auditor.wire.reading import Reply
from alignmerge.errors import EndpointError, UsageError

# Raised whenever a change may change an answer: stored answers of the older version are not reused.
CODE_VERSION = 1
# An answer comes in one piece when it is done: on few cores that may take minutes.
SILENCE_SECONDS = 900.0
# A request with all its tries may take so many times as long.
PATIENCE = 2


class VLLMEngine(Served):
    """Answers of a running `server`. `tokenizer` is the checkpoint's own, `ends` the ids that end an answer.

    silence_seconds: how long the server may be silent.

    Raises:
        UnsafeFormat: the chat template is missing, hostile or broken.
        EndpointError: see Served; or something else answers at the server's port.
    """

    def __init__(
        self,
        server: VLLMServer,
        tokenizer: Any,
        ends: frozenset[int],
        batch_size: int = DEFAULT_BATCH_SIZE,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        template = template_of(tokenizer)
        check_template(template.source, template.tokens)
        self._server, self._ends, self._batch_size = server, ends, batch_size
        self.encoder: Encoder = Encoder(tokenizer, template)
        self.context = server.context
        limits = Limits(concurrency=batch_size, read=silence_seconds, total=PATIENCE * silence_seconds)
        endpoint = Endpoint(server.url, server.name, limits=limits)
        try:
            if server.name not in endpoint.models():
                raise EndpointError(f"{server.url}: another server answers there; run the audit again")
            super().__init__(endpoint)
        except BaseException:
            endpoint.close()
            raise

    def _ask(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        ids = self.encoder.encode(prompts) if prompts else []
        for prompt, row in zip(prompts, ids, strict=True):
            self._check_room(prompt, len(row), sampling.max_new_tokens)
        return self._asked(ids, sampling, {"stop_token_ids": sorted(self._ends), "return_token_ids": True})

    def _check_room(self, prompt: str, tokens: int, new_tokens: int) -> None:
        if tokens + new_tokens > self._server.context:
            raise UsageError(
                f"prompt {prompt[:60]!r}: {tokens} tokens and {new_tokens} for the answer exceed the server's context "
                f"of {self._server.context}"
            )

    def _asked(
        self, ids: Sequence[Sequence[int]], sampling: Sampling, extra: Mapping[str, Any]
    ) -> Iterator[tuple[int, Reply]]:
        """The endpoint's replies. A server that ended on the way is told from one that cannot be reached."""
        try:
            yield from self.endpoint.completions(ids, sampling, extra)
        except EndpointError as error:
            if (why := self._server.ended()) is None:
                raise
            raise EndpointError(f"{why} ({error})") from None

    def _completion(self, reply: Reply) -> Completion:
        told = reply.choice.get("token_ids")
        if reply.fault is not None or reply.finish is None or not _ids(told):
            return super()._completion(reply)
        tokens = tuple(told[:-1] if told and told[-1] in self._ends else told)
        text = self.encoder.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(tokens, text, reply.finish)

    def _body(self) -> dict[str, Any]:
        return {
            "kind": "vllm",
            "code": CODE_VERSION,
            "version": self._server.version,
            "dtype": self._server.dtype,
            "options": list(self._server.options),
            "settings": self._server.settings,
            "batch_size": self._batch_size,
            "ends": sorted(self._ends),
            "template": self.encoder.template.digest,
        }

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, end: bool = True) -> list[float]:
        """Natural-log probability of each (prompt, answer)'s answer: the sum over its tokens, with `end` the end's too.

        Raises:
            UsageError: an answer has no tokens, or does not fit into the context behind its prompt.
            EndpointError: the server does not tell them.
        """
        tail = [min(self._ends)] if end else []
        asked = self.encoder.encode([prompt for prompt, _ in pairs]) if pairs else []
        answers = [[*self.encoder.text(answer), *tail] for _, answer in pairs]
        if not all(answers):
            raise UsageError("an answer without tokens has no likelihood")
        for (prompt, _), row, answer in zip(pairs, asked, answers, strict=True):
            # A completions server generates at least one token.
            self._check_room(prompt, len(row), len(answer) + 1)
        whole = [prompt + answer for prompt, answer in zip(asked, answers, strict=True)]
        out = [0.0] * len(pairs)
        for index, reply in self._asked(whole, Sampling(1), {"prompt_logprobs": 0}):
            told = reply.choice.get("prompt_logprobs")
            rows = told[len(asked[index]) :] if isinstance(told, list) else []
            if len(rows) != len(answers[index]):
                raise EndpointError(f"{self._server.url}: the server does not tell the likelihood of a prompt's tokens")
            out[index] = math.fsum(
                _logprob(row, token, self._server.url) for row, token in zip(rows, answers[index], strict=True)
            )
        return out


def _ids(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(token) is int for token in value)


def _logprob(row: Any, token: int, where: str) -> float:
    told = row.get(str(token)) if isinstance(row, Mapping) else None
    value: Any = told.get("logprob") if isinstance(told, Mapping) else None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise EndpointError(f"{where}: the server does not tell the likelihood of a prompt's tokens")
    return float(value)
