"""A row that a model could not answer, as a prediction that says so."""

from __future__ import annotations

from xverse_v.errors import XverseError

from ..contract import REFUSED, Prediction


def refusal(key: str, problem: XverseError) -> Prediction:
    """No text, finish reason "error", and the error under ``facts["error"]``, in English so that files compare."""
    return Prediction(key, "", REFUSED, {"error": {"code": problem.code, "name": problem.name, **problem.parts("en")}})
