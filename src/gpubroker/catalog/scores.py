"""How the performance score of a model without a fixed point is derived.

The scale (0-150) is set by points that clients know (`FIXED_POINTS`). For any other model:

1. x = sqrt(dense 16-bit TFLOP/s x memory bandwidth in GB/s); the vector FP32 rate stands in
   where a chip has no matrix unit.
2. The score is the straight line in log2(x) through the GTX 1080 Ti (45) and the H100 (150).
3. Not more than any fixed point that equals or beats the model in rate and bandwidth, and not
   less than any that it equals or beats in both; the second wins where the points disagree.
4. Rounded, within 0 and 150.
5. Where a chip's 16-bit rate is not published, a quarter of its FP8 rate stands in; where no rate
   is, the score is 0: not rated.

Every step is monotone in rate and bandwidth, so a derived score never falls as a chip gets faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

FIXED_POINTS: Mapping[str, int] = {
    "RTX 4090": 100,
    "RTX 4080": 85,
    "RTX 4070": 70,
    "RTX 3090": 90,
    "RTX 3080": 80,
    "RTX 3070": 65,
    "RTX 2080 Ti": 60,
    "GTX 1080 Ti": 45,
    "A100": 120,
    "H100": 150,
    "V100": 95,
    "A40": 85,
    "A6000": 90,
    "RX 7900 XTX": 85,
    "RX 6900 XT": 75,
}
LOWEST, HIGHEST = 0, 150
_LINE_FROM, _LINE_TO = "GTX 1080 Ti", "H100"

Speed = tuple[float, float]
"""(dense 16-bit TFLOP/s, bandwidth in GB/s)."""


def derived_score(speed: Speed, fixed: Mapping[str, Speed]) -> int:
    """The score of a model this fast; `fixed` gives the speeds of all fixed points."""
    low, high = _log_speed(fixed[_LINE_FROM]), _log_speed(fixed[_LINE_TO])
    start, end = FIXED_POINTS[_LINE_FROM], FIXED_POINTS[_LINE_TO]
    score = start + (end - start) * (_log_speed(speed) - low) / (high - low)
    beaten = (FIXED_POINTS[name] for name, other in fixed.items() if _beats(speed, other))
    beating = (FIXED_POINTS[name] for name, other in fixed.items() if _beats(other, speed))
    return round(max(min([score, *beating, HIGHEST]), *beaten, LOWEST))


def _log_speed(speed: Speed) -> float:
    rate, bandwidth = speed
    return math.log2(rate * bandwidth) / 2


def _beats(one: Speed, other: Speed) -> bool:
    return one[0] >= other[0] and one[1] >= other[1]
