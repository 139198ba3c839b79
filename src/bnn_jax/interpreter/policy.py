"""Which estimator a weight gets, given how the network uses it."""

from bnn_jax.interpreter.estimators import ESTIMATORS, Situation
from bnn_jax.interpreter.random_weight import Uses


class EstimatorError(ValueError):
    """An estimator was named for a weight for which its result would be wrong."""


def settle(name: str, estimator: str, uses: Uses, strict: bool, approximate: bool) -> str:
    """The estimator of a weight: the chosen one, or what takes its place.

    Args:
        name: the weight's.
        estimator: the chosen one's name.
        uses: how the forward pass uses the weight.
        strict: raise an error where the chosen one would be wrong.
        approximate: use it at shared positions all the same.

    Raises:
        EstimatorError: with `strict`.
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
    """What an estimator must be able to deal with, the widest first."""
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
            f"{estimator} is not exact for {name!r}: an example meets this weight at more than one "
            "position (space or time), and drawing the outputs independently loses their "
            f"covariance. Choose {fallback!r} for it, as in {choice}, or allow the approximation "
            "with approximate=True."
        )
    if situation is Situation.REPEATED:
        return (
            f"The weight {name!r} is used more than once in a forward pass (tied weights, or a "
            f"layer that is called again). The estimator {estimator!r} would give each use its own "
            f"noise: choose {fallback!r} for it, as in {choice}."
        )
    return (
        f"The estimator {estimator!r} cannot be used for the weight {name!r}: it does not enter a "
        "linear map of data with the examples on axis 0 (it is used in a loop, looked up or "
        f"multiplied element by element, or the examples are on another axis). Choose "
        f"{fallback!r} for it, as in {choice}."
    )
