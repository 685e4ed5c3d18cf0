"""What the installed transformers knows by itself, without code from a checkpoint."""

from typing import Any


def config_class(model_type: Any) -> Any:
    """transformers' own configuration class for `model_type`, or None where it has none."""
    from transformers.models.auto import configuration_auto

    names: Any = vars(configuration_auto)["CONFIG_MAPPING_NAMES"]
    return (
        configuration_auto.CONFIG_MAPPING[model_type] if isinstance(model_type, str) and model_type in names else None
    )


def causal_model_class(model_type: Any) -> Any:
    """transformers' own causal language model class for `model_type`, or None where it has none."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config = config_class(model_type)
    return MODEL_FOR_CAUSAL_LM_MAPPING[config] if config is not None and config in MODEL_FOR_CAUSAL_LM_MAPPING else None
