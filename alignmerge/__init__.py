"""AlignMerge: audit, merge and gate language-model checkpoints."""

from pathlib import Path

__version__ = "0.1.0"

# A checkout keeps the subpackages beside this folder; a wheel keeps them inside it.
if not (Path(__file__).parent / "auditor").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))
