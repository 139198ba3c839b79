"""The choice of a weight's estimator, given how the network uses the weight."""

from bnn_jax.interpreter.estimators import ESTIMATORS, Situation
from bnn_jax.interpreter.random_weight import Uses


class EstimatorError(ValueError):
    """An estimator that is invalid for its weight."""


def settle(name: str, estimator: str, uses: Uses, strict: bool, approximate: bool) -> str:
    """Returns the estimator of a weight: the chosen one, or its replacement.

    Args:
        name: the name of the weight.
        estimator: the name of the chosen estimator.
        uses: how the forward pass uses the weight.
        strict: raise an error if the chosen estimator is invalid.
        approximate: accept the chosen estimator also at positions that share the weight.

    Raises:
        EstimatorError: the chosen estimator is invalid, and `strict` is True.
    """
    for situation in _situations(uses):
        fallback = ESTIMATORS[estimator].fallbacks.get(situation)
        if fallback is None or (approximate and situation is Situation.POSITIONS):
            continue
        if strict:
            raise EstimatorError(_message(name, estimator, situation, fallback))
        return settle(name, fallback, uses, strict, approximate)
    return estimator


def _situations(uses: Uses) -> list[Situation]:
    """Returns the situations that apply to the weight, the most general first."""
    held = {
        Situation.REPEATED: uses.per_example + uses.others > 1,
        Situation.NOT_PER_EXAMPLE: uses.others,
        Situation.POSITIONS: uses.positions,
    }
    return [situation for situation, holds in held.items() if holds]


def _message(name: str, estimator: str, situation: Situation, fallback: str) -> str:
    choice = f"estimator={{{name!r}: {fallback!r}, '*': {estimator!r}}}"
    if situation is Situation.POSITIONS:
        return (
            f"{estimator} is not exact for {name!r}: an example uses this weight at more than one "
            "position (space or time), and independent samples of the outputs lose their "
            f"covariance. Use {fallback!r}, as in {choice}, or allow the approximation with "
            "approximate=True."
        )
    if situation is Situation.REPEATED:
        return (
            f"The weight {name!r} is used more than once in a forward pass (tied weights, or a "
            f"layer that is called again). The estimator {estimator!r} would use independent noise "
            f"for each use. Use {fallback!r}, as in {choice}."
        )
    return (
        f"The estimator {estimator!r} cannot be used for the weight {name!r}: it does not enter a "
        "linear map of data with the examples on axis 0 (it is used in a loop, indexed or "
        "multiplied element by element, or the examples are on another axis). Use "
        f"{fallback!r}, as in {choice}."
    )
