"""Which of VLMEvalKit's two sets of rules a profile follows where a benchmark has no rule of its own.

The release measured everything but OKVQA and GQA with the VLMEvalKit of April 2024, so profile ``release`` follows that
date; a benchmark whose authors published no scorer of their own is scored by today's VLMEvalKit under ``official``.
"""

from __future__ import annotations

from ..contract import Profile


def of_april_2024(profile: Profile) -> bool:
    """True where the rules of VLMEvalKit at the date of the released model's card apply."""
    return profile in ("vlmevalkit-2024-04", "release")
