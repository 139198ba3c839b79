"""Rules that stop a fit before its last epoch."""

from collections.abc import Callable, Sequence
from typing import Any

from bnn_jax.fitting import checks

# Whether to stop after an epoch, from the numbers of all epochs so far.
EarlyStopping = Callable[[Sequence[dict[str, Any]]], bool]


def patience(epochs: int, *, score: str = "nll", larger_is_better: bool = False) -> EarlyStopping:
    """Returns a rule that stops when a validation score has not improved for so many epochs."""
    checks.check_counts(epochs=epochs)

    def rule(history: Sequence[dict[str, Any]]) -> bool:
        seen = [(line["epoch"], line["validation"]) for line in history if "validation" in line]
        if not seen:
            return False
        if score not in seen[0][1]:
            raise ValueError(
                f"patience watches {score!r}; the validation scores are {', '.join(seen[0][1])}."
            )
        sign = -1.0 if larger_is_better else 1.0
        best = min(seen, key=lambda item: sign * item[1][score])[0]
        return bool(history[-1]["epoch"] - best >= epochs)

    return rule
