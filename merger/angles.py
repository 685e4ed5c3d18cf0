"""Sines and angles from additions, multiplications, divisions and square roots alone.

Those round the same way on every machine, while two libraries' sines may differ in the last bit; a merge's digest
would feel that. Tests hold the results against the standard library: a few units in the last place.
"""

import math

_SERIES = tuple(range(3, 31, 2))  # (pi/2)^31 / 31! < 2^-90: far below the last bit
_NEWTON_STEPS = 6  # quadratic from 0.08 off: four reach the last bit


def sine(angle: float) -> float:
    """sin(angle), radians."""
    rest = math.remainder(angle, 2 * math.pi)
    if rest > math.pi / 2:
        rest = math.pi - rest
    elif rest < -math.pi / 2:
        rest = -math.pi - rest
    square, tail = rest * rest, 0.0
    for power in reversed(_SERIES):  # the smallest terms first: summed the other way, one angle in sixty was 2 ulp off
        tail = -(square / (power * (power - 1))) * (1 + tail)
    return rest + rest * tail


def cosine(angle: float) -> float:
    """cos(angle), radians."""
    half = sine(angle / 2)
    return 1 - 2 * half * half


def angle_of(value: float) -> float:
    """The angle of [0, pi] whose cosine is `value`; one outside [-1, 1] by rounding counts as its end."""
    if value < 0:
        return math.pi - angle_of(-value)
    half = math.sqrt(max(0.0, 1 - value) / 2)  # sin(angle / 2): keeps the digits of small angles
    out = half
    for _ in range(_NEWTON_STEPS):
        out -= (sine(out) - half) / cosine(out)
    return 2 * out
