"""Tiny random checkpoints of the model families that recipes are shipped for, made by transformers' own classes."""

from pathlib import Path
from typing import Any

LAYERS = 2
ROLES = ("base", "anchor", "safety", "expert_a", "expert_b")

_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
}
# Family -> transformers' model type, and what its real checkpoints have beyond the common shape.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", {"rope_parameters": _LLAMA3_ROPE, "tie_word_embeddings": False}),
    "llama3_tied": ("llama", {"rope_parameters": _LLAMA3_ROPE, "tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": 32, "tie_word_embeddings": False}),
    # The embedding has more rows than the tokenizer has tokens: 96 is the padded size.
    "qwen2": ("qwen2", {"vocab_size": 128, "tie_word_embeddings": False}),
    "phi3": (
        "phi3",
        {
            "rope_parameters": _LONGROPE,
            "original_max_position_embeddings": 64,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
    ),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "sliding_window": 16,
            "tie_word_embeddings": True,
        },
    ),
}
# What only this family has, as parts of tensor names.
MARKS = {
    "llama3": ("lm_head.weight", "mlp.gate_proj.weight"),
    "llama3_tied": ("mlp.gate_proj.weight",),
    "mistral": ("lm_head.weight",),
    "qwen2": ("q_proj.bias", "k_proj.bias", "v_proj.bias"),
    "phi3": ("self_attn.qkv_proj.weight", "mlp.gate_up_proj.weight"),
    "gemma2": ("pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"),
}


def config_of(family: str, **changes: Any) -> Any:
    """The tiny config of `family`, of transformers' own class."""
    from transformers import AutoConfig

    kind, own = FAMILIES[family]
    return AutoConfig.for_model(kind, **{**_COMMON, **own, **changes})


def write_family(family: str, root: Path, tokenizer: Any = None) -> None:
    """Put the checkpoints ROLES of `family` into `root`: bf16, all near the first one, saved by transformers.

    With a tokenizer they can be asked; the embedding has as many more rows than tokens as the family's has.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config_of(family, **_spoken(family, tokenizer))).bfloat16()
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        for role in ROLES:
            with torch.no_grad():
                for name, value in model.named_parameters():
                    spread = 0.3 * float(start[name].float().std()) + 0.01
                    moved = start[name].float() + spread * torch.randn(value.shape) * (role != "base")
                    value.copy_(moved.bfloat16())
            model.save_pretrained(root / role)
            if tokenizer is not None:
                tokenizer.save_pretrained(root / role)


def _spoken(family: str, tokenizer: Any) -> dict[str, Any]:
    """What `tokenizer` changes of the config."""
    if tokenizer is None:
        return {}
    spare = FAMILIES[family][1].get("vocab_size", _COMMON["vocab_size"]) - 96
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {**special, "vocab_size": len(tokenizer) + spare, "max_position_embeddings": 512}
