"""Every failure AlignMerge reports on purpose, as one tree.

    AlignMergeError                 exit 1
    |-- UsageError                  exit 2   a command line that cannot be carried out
    |   |-- RecipeError             exit 2   recipe.yaml
    |   `-- PolicyError             exit 2   a policy file
    |-- PolicyFailed                exit 3   the evidence is complete and over budget
    |   `-- BudgetExceeded          exit 3   a hard budget of a solve's own
    |-- Inconclusive                exit 4   evidence missing, stale, errored or too little
    |-- InputRejected               exit 5
    |   |-- CheckpointError         exit 5   a checkpoint as a whole
    |   |   |-- ShardError          exit 5   one safetensors file or its index
    |   |   |-- TensorMismatch      exit 5   names, shapes, dtypes or values
    |   |   |-- TokenizerMismatch   exit 5   vocabularies, special tokens, templates
    |   |   `-- UnsafeFormat        exit 5   pickle, remote code, hostile templates
    |   |-- RecordError             exit 5   a record that is malformed or about something else
    |   `-- IntegrityError          exit 5   bytes differ from what a digest promised
    `-- StorageError                exit 6   disk and file system
        `-- EndpointError           exit 6   a server or download

A message says what is wrong, where (file and key) and what to do. The command line prints it as one
line; `--debug` adds the traceback.
"""


class AlignMergeError(Exception):
    """Base of all failures reported on purpose."""

    exit_code = 1


class UsageError(AlignMergeError):
    """A command line that cannot be carried out."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that is malformed or contradicts itself."""


class PolicyError(UsageError):
    """A policy file that is malformed, gates nothing or names unknown metrics."""


class PolicyFailed(AlignMergeError):
    """Complete evidence shows a budget is exceeded."""

    exit_code = 3


class BudgetExceeded(PolicyFailed):
    """A solve ended over its hard budget: `gap` where `limit` was allowed, in the functional's unit."""

    def __init__(self, message: str, *, gap: float, limit: float) -> None:
        super().__init__(message)
        self.gap, self.limit = gap, limit


class Inconclusive(AlignMergeError):
    """The evidence cannot decide: missing, stale, errored or too few items."""

    exit_code = 4


class InputRejected(AlignMergeError):
    """An input that must not be used."""

    exit_code = 5


class CheckpointError(InputRejected):
    """A checkpoint that cannot be read as one model."""


class ShardError(CheckpointError):
    """A safetensors file or index that is malformed or points outside its folder."""


class TensorMismatch(CheckpointError):
    """Tensors that do not fit together, or hold values that are not finite."""


class TokenizerMismatch(CheckpointError):
    """Tokenizers that disagree about what an id means."""


class UnsafeFormat(CheckpointError):
    """A file that would run code to be read, or a template that tries to."""


class RecordError(InputRejected):
    """A record file that is malformed or speaks of another checkpoint."""


class IntegrityError(InputRejected):
    """Bytes that differ from what a digest promised."""


class StorageError(AlignMergeError):
    """The disk or file system refused."""

    exit_code = 6


class EndpointError(StorageError):
    """A server or download did not deliver."""
