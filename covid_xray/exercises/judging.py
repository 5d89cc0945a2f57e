"""What the judges of the exercises share: comparing what came with what is right, and with the common mistakes."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["hint_for", "matches"]


def matches(
    got: Any,  # a number, list, array or tensor, with or without gradients
    wanted: Any,  # likewise
    tolerance: float = 1e-5,  # largest difference allowed, absolute
    relative: float = 0.0,  # what is allowed on top of it, as a share of the number wanted
    nan_agrees: bool = False,  # whether NaN agrees with itself
) -> bool:  # whether shape and values agree; what isn't made of numbers doesn't
    "Compare two answers by their numbers, whatever they are kept in"
    try:
        x, y = (np.asarray(value.detach() if hasattr(value, "detach") else value, dtype=float)
                for value in (got, wanted))
    except (TypeError, ValueError):
        return False
    return x.shape == y.shape and np.allclose(x, y, rtol=relative, atol=tolerance, equal_nan=nan_agrees)


def hint_for(
    got: Any,  # the answer
    mistakes: Mapping[str, Any],  # hint -> what that mistake gives
    otherwise: str,  # the hint where the answer is none of them
    tolerance: float = 1e-5,  # largest difference allowed, absolute
) -> str:  # the hint of the first mistake that gives this answer
    "Say which of the common mistakes gives what came"
    return next((hint for hint, wrong in mistakes.items() if matches(got, wrong, tolerance)), otherwise)
