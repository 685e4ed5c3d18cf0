"""A transformers model with the values of a checkpoint, built in memory: nothing is written, no foreign code runs."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from alignmerge import devices, jsonio
from alignmerge.errors import CheckpointError, StorageError, TensorMismatch, TokenizerMismatch, UnsafeFormat
from alignmerge.merger.checkpoint import Checkpoint, open_checkpoint
from alignmerge.merger.native import causal_model_class, config_class

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(
    checkpoint: Checkpoint | str, dtype: str = "bfloat16", on: str | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model in eval mode with weights in `dtype`, and its tokenizer. on: the device; None: see devices.device.

    Raises:
        UnsafeFormat: transformers does not have this model type itself.
        TensorMismatch: the checkpoint's tensors are not exactly the model's.
        TokenizerMismatch: the tokenizer cannot be loaded.
        CheckpointError, StorageError: see open_checkpoint.
    """
    import torch

    opened = open_checkpoint(checkpoint) if isinstance(checkpoint, str) else checkpoint
    kind = getattr(torch, dtype)
    model = build_model(opened.config, {name: rounded(opened.read(name), kind) for name in opened.tensors}, dtype, on)
    generation = opened.model_folder / "generation_config.json"
    if generation.exists():
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_dict(jsonio.read(generation))
    return model, load_tokenizer(opened)


def build_model(
    config: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor]", dtype: str, on: str | None = None
) -> "PreTrainedModel":
    """The causal language model that `config` describes, in eval mode, holding `tensors` rounded to `dtype`.

    on: the device; None: see devices.device.

    Raises:
        UnsafeFormat: transformers does not have this model type itself.
        TensorMismatch: names or shapes are not exactly the model's.
        StorageError: the GPU has no room for it. UsageError: see devices.device.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError

    where = on or devices.device()  # before anything is read: it may be none
    model_type = config.get("model_type")
    model_class = causal_model_class(model_type)
    if model_class is None:
        raise UnsafeFormat(f"config.json: transformers has no causal language model of type {model_type!a} itself")
    kind = getattr(torch, dtype)
    try:
        native = config_class(model_type).from_dict({key: value for key, value in config.items() if key != "auto_map"})
    except (StrictDataclassError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"config.json: not a {model_type} configuration: {reason}") from None
    with _no_progress_bars():
        model, report = model_class.from_pretrained(
            None,
            config=native,
            state_dict={name: rounded(tensor, kind) for name, tensor in tensors.items()},
            dtype=kind,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported below like the others
        )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if wrong := sorted(map(str, report[what])):
            raise TensorMismatch(f"{type(model).__name__}: {what.replace('_', ' ')}: {', '.join(wrong[:5])}")
    try:
        loaded: PreTrainedModel = model.eval().to(where)
    except torch.OutOfMemoryError:
        raise StorageError(f"{where}: no room for the model; take a larger GPU, or {devices.VARIABLE}=cpu") from None
    from alignmerge.products import quicken, taken

    if taken(dtype, where):
        quicken(loaded)
    return loaded


def rounded(tensor: "torch.Tensor", kind: "torch.dtype") -> "torch.Tensor":
    """`tensor` in dtype `kind`; what is not floating-point (a mask, a counter) as it is."""
    return tensor.to(kind) if tensor.is_floating_point() else tensor


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging as module

    logging: Any = module
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def load_tokenizer(checkpoint: Checkpoint) -> "PreTrainedTokenizerBase":
    """The checkpoint's tokenizer with its chat template.

    Raises:
        TokenizerMismatch: there is none, or transformers cannot load it.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = checkpoint.tokenizer_files
    settings = folder / "tokenizer_config.json"
    own_code = settings.exists() and "auto_map" in jsonio.read(settings)
    try:
        if own_code:  # checkpoint.check_code saw to it that tokenizer.json is there
            tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TokenizerMismatch(f"{folder}: its tokenizer cannot be loaded: {error}") from None
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded
