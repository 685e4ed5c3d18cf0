"""Any OpenAI-compatible server as an engine. The server applies its own chat template; what it runs is what it says."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from alignmerge import jsonio
from alignmerge.auditor.endpoint import Endpoint
from alignmerge.auditor.engines.base import Sampling
from alignmerge.auditor.engines.served import Served
from alignmerge.auditor.template import clean
from alignmerge.auditor.wire.reading import Reply

# Raised whenever a change may change an answer: stored answers of the older version are not reused.
CODE_VERSION = 1
Weights = Literal["stated", "unknown"]
TEMPLATE = jsonio.digest("the server's own chat template")


class OpenAIEngine(Served):
    """Answers of the model that `endpoint` names.

    weights: "stated" where the user says which checkpoint the server runs, "unknown" where nobody does.

    Raises:
        EndpointError: see Served.
    """

    def __init__(self, endpoint: Endpoint, weights: Weights = "unknown") -> None:
        self._weights = weights
        super().__init__(endpoint)

    def _ask(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        asked = [[{"role": "user", "content": clean(prompt)}] for prompt in prompts]
        return self.endpoint.chats(asked, sampling)

    def _body(self) -> dict[str, Any]:
        return {
            "kind": "openai",
            "code": CODE_VERSION,
            "url": self.endpoint.base_url,
            "model": self.endpoint.model,
            "reported": self.endpoint.reported,
            "weights": self._weights,
            "template": TEMPLATE,
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the record must know of this server."""
        host = urlsplit(self.endpoint.base_url).netloc
        if self._weights == "stated":
            said = f"{host} is said to run these weights; that cannot be checked from here"
        else:
            said = f"no weights digest is known: the record speaks of whatever {host} calls {self.endpoint.model}"
        return (said, *super().notes)
