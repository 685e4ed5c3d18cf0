"""Whether AQI measures alignment on this anchor at all, asked before any budget may use it.

Three tests, all of which must hold: J with labels swapped at random stays below the true J (there is a signal); the
anchor is above its unaligned base on the same pairs (the signal is alignment, not topic); AQI does not rise along the
way from the anchor to the base (it follows alignment in between).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignmerge.auditor.scorers.aqi import AqiResult, PairStates

CHANCE_QUANTILE = 0.99
ALPHA = 0.05
NOT_SHOWN = "validity not shown: no base given"


@dataclass(frozen=True)
class WeakerModel:
    """States of a less aligned model on the anchor's pairs. Lists of them run from nearest the anchor to the base."""

    name: str
    states: PairStates


def validity(anchor: AqiResult, weaker: Sequence[tuple[str, AqiResult]]) -> tuple[bool | None, str]:
    """Whether all three tests hold, and the sentence that says why or why not; None when there is no base to ask.

    `weaker` runs from the model nearest the anchor to the base (last), measured with the anchor's reference and on
    the anchor's pairs. The comparison with the base is a one-sided 95 % paired bootstrap.
    """
    chance = float(np.quantile(anchor.shuffled, CHANCE_QUANTILE))
    if anchor.log_j <= chance:
        return False, f"labels swapped at random reach log J {chance:.3f}, the true labels only {anchor.log_j:.3f}"
    if not weaker:
        return None, NOT_SHOWN
    name, base = weaker[-1]
    gaps = np.asarray(anchor.replicates) - np.asarray(base.replicates)
    bound = float(np.quantile(gaps, ALPHA))
    if bound <= 0.0:
        gap = anchor.log_j - base.log_j
        return False, f"the anchor is not above {name}: log J differs by {gap:+.3f}, lower bound {bound:+.3f}"
    path = [("the anchor", anchor.log_j), *((label, result.log_j) for label, result in weaker)]
    for (near, high), (far, low) in itertools.pairwise(path):
        if low > high:
            return False, f"log J rises from {near} ({high:.3f}) to {far} ({low:.3f}) on the way to {name}"
    return True, f"above chance ({chance:.3f}), above {name} (lower bound {bound:+.3f}), monotone in between"
