"""One word against one word: the ways GQA's answers are compared.

Sources: the official GQA ``eval.py`` (string equality; LLaVA's conversion cleans predictions first), VLMEvalKit
``image_vqa.py`` method ``accuracy``, and the release's ``eval_vqa.py``, whose substring test is far more lenient.
"""

from __future__ import annotations

from ..contract import Profile


def exact(prediction: str, label: str, profile: Profile) -> bool:
    """The answers are equal.

    Profile ``official``: the prediction is first lower-cased and loses its final periods, as LLaVA prepares it for the
    official script, and the label is taken as it is. Other profiles: both stripped and lower-cased.
    """
    if profile == "official":
        return prediction.strip().rstrip(".").lower() == label
    return prediction.strip().lower() == label.strip().lower()


def release_substring(prediction: str, label: str) -> bool:
    """The release's rule: the label, as it is written, stands anywhere in the lower-cased prediction.

    So ``man`` is found in ``woman`` and ``no`` in ``not``, ``none`` and ``another``.
    """
    return label in prediction.lower()
