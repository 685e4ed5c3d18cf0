"""What an engine is: prompts in, completions out, whoever runs the model.

Notable decisions:
- The primitive is a stream that yields each answer as soon as it is complete, so that a killed audit loses one batch
  and not the run; `generate` is that stream put back in order.
- A prompt is the text of one user turn. The engine wraps it in the model's chat template, and the text stays text:
  a special token spelled inside a prompt is encoded as its characters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from alignmerge import jsonio
from alignmerge.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.auditor.engines.prompts import Encoder


class Unsupported(UsageError):
    """An engine cannot give what was asked for (log-likelihoods, hidden states); the message says why."""


Finish = Literal["stop", "length", "fault"]
DEFAULT_BATCH_SIZE = 64


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; above it, row i draws from a stream seeded by seed and prompt.

    `repeat` counts the times the same prompt is asked again: each repeat has draws, and a stored answer, of its own.

    Raises:
        UsageError: `max_new_tokens` below 1, a temperature that is negative or not finite, or a repeat below 0 or of a
            greedy answer, which would be the same again.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    repeat: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {self.max_new_tokens}: at least 1 token must be asked for")
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}: it must be finite and not negative")
        if self.repeat < 0 or (self.repeat > 0 and self.temperature == 0):
            raise UsageError(f"repeat is {self.repeat} at temperature {self.temperature}: only drawn answers repeat")

    def to_json(self) -> dict[str, Any]:
        row = asdict(self)
        if self.repeat == 0:  # so that the digest of an answer asked once stays what it was
            del row["repeat"]
        return row

    @property
    def digest(self) -> str:
        """SHA-256 naming this way of choosing tokens."""
        return jsonio.digest(self.to_json())


@dataclass(frozen=True)
class Completion:
    """One answer. `tokens` exclude the end token; `finish` is "length" when the token limit cut it off.

    `choices` are the natural-log probabilities of the choices of a likelihood item, in its order; `text` is then the
    likeliest choice. `tokens` is empty where the engine tells only text. `fault` says why this is no whole answer
    (finish "fault"): it is never scored and never kept.
    """

    tokens: tuple[int, ...]
    text: str
    finish: Finish
    choices: tuple[float, ...] | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Answer:
    """A completion, the place of its prompt in the list asked, and the prompt's hidden states, (layers, d)."""

    index: int
    completion: Completion
    states: "Tensor | None" = None


Advance = Callable[[int], None]


class Engine(Protocol):
    """Runs one checkpoint."""

    @property
    def gives_states(self) -> bool:
        """Whether `hidden_states`, and `stream` with states, can be had; else they raise Unsupported."""
        ...

    @property
    def encoder(self) -> "Encoder | None":
        """What turns prompts into token ids; None where only the server knows."""
        ...

    @property
    def context(self) -> int | None:
        """How many tokens a prompt and its answer may have together; None where nobody tells."""
        ...

    def stream(self, prompts: Sequence[str], sampling: Sampling, *, states: bool = False) -> Iterator[Answer]:
        """Every answer once, in the order they finish; with `states`, also the prompt's hidden states."""
        ...

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Advance | None = None) -> list[Completion]:
        """One completion per prompt, in the order of `prompts`."""
        ...

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, end: bool = True) -> list[float]:
        """Natural-log probability of each (prompt, answer) pair's answer, summed over its tokens.

        With `end`, the end token belongs to the answer. Raises Unsupported: the engine cannot tell.
        """
        ...

    def hidden_states(self, prompts: Sequence[str], layers: Sequence[int] | None = None) -> "Tensor":
        """Residual stream after each of `layers` (1-based; None: all) at the last prompt token: (n, layers, d)."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What answers depend on besides weights: kind, dtype, library versions, `template`; `digest` names it all."""
        ...


def in_order(answers: Iterator[Answer], total: int, progress: Advance | None = None) -> list[Completion]:
    """The completions of a stream of `total` answers, by index."""
    found: dict[int, Completion] = {}
    for answer in answers:
        found[answer.index] = answer.completion
        if progress is not None:
            progress(1)
    return [found[index] for index in range(total)]
