"""What the judges of the exercises share: comparing what came with what is right, and with the common mistakes."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["hint_for", "matches"]


def matches(
    got: Any,  # a number, list, array or tensor
    wanted: Any,  # likewise
    tolerance: float = 1e-5,  # largest difference allowed, absolute
) -> bool:  # whether shape and values agree
    "Compare two answers by their numbers, whatever they are kept in; NaN agrees with nothing"
    got, wanted = np.asarray(got, dtype=float), np.asarray(wanted, dtype=float)
    return got.shape == wanted.shape and bool((np.abs(got - wanted) <= tolerance).all())


def hint_for(
    got: Any,  # the answer
    mistakes: Mapping[str, Any],  # hint -> what that mistake gives
    otherwise: str,  # the hint where the answer is none of them
    tolerance: float = 1e-5,  # largest difference allowed, absolute
) -> str:  # the hint of the first mistake that gives this answer
    "Say which of the common mistakes gives what came"
    return next((hint for hint, wrong in mistakes.items() if matches(got, wrong, tolerance)), otherwise)
