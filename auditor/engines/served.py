"""What every engine behind an HTTP server shares: text comes back as it finishes, hidden states never.

Notable decisions:
- The first thing asked of a server is the same question several times. It shows at once whether replies can be read at
  all, and it is recorded whether equal questions get equal answers: many servers ignore `seed`, and batching alone can
  change an answer at temperature 0.
- What the probe found and how many requests were tried again are told by `describe`, outside its digest: answers of an
  earlier run of the same server stay usable.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignmerge import jsonio
from alignmerge.auditor.endpoint import Endpoint
from alignmerge.auditor.engines.base import Advance, Answer, Completion, Sampling, Unsupported, in_order
from alignmerge.auditor.wire.address import address
from alignmerge.auditor.wire.reading import Reply
from alignmerge.errors import EndpointError

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.auditor.engines.prompts import Encoder

PROBE = "Describe in a few sentences how a river changes from its source to the sea."
PROBE_TOKENS = 24
GREEDY_TIMES, DRAWN_TIMES = 3, 2
NO_STATES = "a server tells text, no hidden states"
NO_LIKELIHOODS = "a chat server does not tell how likely a given answer is"


@dataclass(frozen=True)
class Repeats:
    """Whether equal questions got equal answers: at temperature 0, and drawn at temperature 1 with one seed."""

    greedy: bool
    drawn: bool
    asked: int


@dataclass
class Requests:
    """Answers so far, and the requests they took."""

    answers: int = 0
    tries: int = 0
    faults: int = 0


class Served(ABC):
    """An engine over `endpoint`.

    Raises:
        EndpointError: the server does not answer, or its answer to a first question cannot be read.
    """

    gives_states = False
    encoder: "Encoder | None" = None
    context: int | None = None

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self._requests = endpoint, Requests()
        self.repeats = self._probe()

    @abstractmethod
    def _ask(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        """Every prompt's place and reply, in the order they finish."""

    @abstractmethod
    def _body(self) -> dict[str, Any]:
        """What answers depend on besides weights and prompt; with `template`."""

    @property
    def identity(self) -> str:
        """SHA-256 of place, model name and the server's own name of the model: what stands for a weights digest.

        The place is the whole base URL: one host may serve several models of one name under several paths.
        """
        named = {"place": address(self.endpoint.base_url).place, "model": self.endpoint.model}
        return jsonio.digest({**named, "reported": self.endpoint.reported})

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the record must know of this server."""
        if self.repeats.greedy:
            return ()
        return ("the server does not repeat its answers at temperature 0: differences between audits hold its noise",)

    def stream(self, prompts: Sequence[str], sampling: Sampling, *, states: bool = False) -> Iterator[Answer]:
        """Every answer once, in the order they finish; one that the server garbled has a fault.

        Raises:
            Unsupported: states are asked for.
            EndpointError: see `Endpoint.chats`.
        """
        if states:
            raise Unsupported(NO_STATES)
        for index, reply in self._ask(prompts, sampling):
            self._requests.answers += 1
            self._requests.tries += reply.tries
            self._requests.faults += reply.fault is not None
            yield Answer(index, self._completion(reply))

    def _completion(self, reply: Reply) -> Completion:
        text = reply.text or ""
        if reply.fault is not None or reply.finish is None:
            return Completion((), text, "fault", fault=reply.fault or "the reply is not complete")
        return Completion((), text, reply.finish)

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Advance | None = None) -> list[Completion]:
        """One completion per prompt, in the order of `prompts`."""
        return in_order(self.stream(prompts, sampling), len(prompts), progress)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, end: bool = True) -> list[float]:
        """Nothing, where the server only chats.

        Raises:
            Unsupported: the server does not tell.
        """
        raise Unsupported(NO_LIKELIHOODS)

    def hidden_states(self, prompts: Sequence[str], layers: Sequence[int] | None = None) -> "Tensor":
        """Nothing: no server tells them.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(NO_STATES)

    @cached_property
    def _description(self) -> dict[str, Any]:
        body = self._body()
        return {**body, "digest": jsonio.digest(body)}

    def describe(self) -> Mapping[str, Any]:
        """What answers depend on besides weights and prompt (`digest` names it all); how the server did so far."""
        return {**self._description, "repeats": asdict(self.repeats), "requests": asdict(self._requests)}

    def close(self) -> None:
        """Let go of the server."""
        self.endpoint.close()

    def _probe(self) -> Repeats:
        found: list[bool] = []
        for temperature, times in ((0.0, GREEDY_TIMES), (1.0, DRAWN_TIMES)):
            sampling = Sampling(PROBE_TOKENS, temperature)
            replies = [reply for _, reply in self._ask([PROBE] * times, sampling)]
            wrong = next((reply.fault for reply in replies if reply.fault is not None), None)
            if wrong is not None:
                raise EndpointError(
                    f"{self.endpoint.base_url}: the answer to a first question cannot be used: {wrong}; "
                    "are the URL and the model right?"
                )
            found.append(len({reply.text for reply in replies}) == 1)
        greedy, drawn = found
        return Repeats(greedy, drawn, GREEDY_TIMES + DRAWN_TIMES)
