"""Rules that stop a fit before its last epoch."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from bnn_jax._parameters import check_count

# Whether to stop after an epoch, from the numbers of all epochs so far.
EarlyStopping = Callable[[Sequence[dict[str, Any]]], bool]


@dataclasses.dataclass(frozen=True)
class Patience:
    """The rule that `patience` returns, a function of the history."""

    epochs: int
    score: str
    larger_is_better: bool

    def __call__(self, history: Sequence[dict[str, Any]]) -> bool:
        seen = [(line["epoch"], line["validation"]) for line in history if "validation" in line]
        if not seen:
            return False
        if self.score not in seen[0][1]:
            raise ValueError(
                f"patience watches {self.score!r}; the validation scores are "
                f"{', '.join(seen[0][1])}."
            )
        sign = -1.0 if self.larger_is_better else 1.0
        best = min(seen, key=lambda item: sign * item[1][self.score])[0]
        return bool(history[-1]["epoch"] - best >= self.epochs)


def patience(epochs: int, *, score: str = "nll", larger_is_better: bool = False) -> EarlyStopping:
    """Returns a rule that stops when a validation score has not improved for so many epochs."""
    check_count("epochs", epochs)
    return Patience(epochs, score, larger_is_better)
