"""Vast.ai: a marketplace of hosts that rent containers with GPUs.

Three traps: a wrong key is answered 404, an error answer may still have made a contract
(`new_contract`), and paths end in a slash, but for a few.
"""

from gpubroker.providers.vast_ai.cloud import VastAi

__all__ = ["VastAi"]
