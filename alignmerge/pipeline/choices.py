"""What a user may choose where a checkpoint is asked, for the command line: importing it costs nothing."""

from typing import Literal

EngineKind = Literal["transformers", "vllm", "openai"]
DTYPES = ("bfloat16", "float32")
# More answers at once only make every one of them slower on a server that others share.
CONCURRENCY = 16
