"""The error of an operation that has no rule for means and variances."""

import dataclasses

from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.jaxprs import Equation


@dataclasses.dataclass
class MomentsError(NotImplementedError):
    """A network has an operation through which means and variances cannot be propagated.

    Attributes:
        operation: the name of JAX's primitive.
        place: the layer and the line of code, as far as known.
        reason: what is wrong, or "".
    """

    operation: str
    place: str = ""
    reason: str = ""

    def __str__(self) -> str:
        place = f" ({self.place})" if self.place else ""
        reason = f": {self.reason}" if self.reason else ""
        return (
            f"Means and variances cannot be propagated through the operation {self.operation!r}"
            f"{place}{reason}. Use method='moments_then_samples' or method='samples' of predict "
            "for this network, or rewrite this step."
        )

    def at(self, call: Equation) -> "MomentsError":
        """Returns the error with the place of the call that led to it, if it has none."""
        return self if self.place else dataclasses.replace(self, place=jaxprs.place_of(call))


def no_rule(eqn: Equation, reason: str = "") -> MomentsError:
    """Returns the error for an equation."""
    return MomentsError(eqn.primitive.name, jaxprs.place_of(eqn), reason)
