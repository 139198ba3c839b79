"""A prediction for each example, with its uncertainty in two parts.

`predict` returns NumPy arrays, and the functions of `build` JAX arrays; both are pytrees.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, register_pytree_with_keys
from jaxtyping import Array, Float, PyTree

if TYPE_CHECKING:  # as `predict` returns them
    Values = Float[np.ndarray, "examples ..."]
    PerExample = Float[np.ndarray, "examples"]
else:
    Values = Float[np.ndarray | Array, "examples ..."]
    PerExample = Float[np.ndarray | Array, "examples"]


Class = TypeVar("Class", bound=type[Any])


def _pytree(cls: Class) -> Class:
    """Registers a dataclass as a pytree whose children are all fields but num_samples."""
    names = [field.name for field in dataclasses.fields(cls) if field.name != "num_samples"]

    def flatten(p: Any) -> tuple[list[tuple[GetAttrKey, PyTree]], int]:
        return [(GetAttrKey(name), getattr(p, name)) for name in names], p.num_samples

    def unflatten(num_samples: int, children: Iterable[PyTree]) -> PyTree:
        # Not by __init__: tree transformations put other things than arrays into the fields.
        new = object.__new__(cls)
        vars(new).update(zip(names, children, strict=True), num_samples=num_samples)
        return new

    register_pytree_with_keys(cls, flatten, unflatten)
    return cls


@_pytree
@dataclasses.dataclass(frozen=True)
class Classification:
    """Predicted classes. Entropies are in nats.

    Attributes:
        probabilities: (examples, ..., classes), the mean over weight samples; of class 1,
            (examples, ...), under a Bernoulli likelihood.
        expected_entropy: aleatoric: the mean over weight samples of the entropy.
        mutual_information: epistemic: between the class and the weights, >= 0.
        log_prob: (examples,) log of the mean likelihood of the targets, if targets were given.
        samples: (samples, examples, ...) the network's outputs, if keep_samples was True.
        num_samples: weight samples; 0 for a prediction in one pass.
    """

    probabilities: Values
    expected_entropy: Values
    mutual_information: Values
    log_prob: PerExample | None
    samples: PyTree
    num_samples: int

    @property
    def predictive_entropy(self) -> Values:
        """Entropy of `probabilities`: expected entropy plus mutual information."""
        return self.expected_entropy + self.mutual_information


@_pytree
@dataclasses.dataclass(frozen=True)
class Regression:
    """Predicted numbers, in the units of the targets.

    Attributes:
        mean: (examples, ...).
        aleatoric_variance: the mean over weight samples of the noise's variance.
        epistemic_variance: the variance over weight samples of the mean.
        quantiles: {level: values of that level of the predictive distribution}.
        log_prob: (examples,) log of the mean density of the targets, if targets were given.
        samples: (samples, examples, ...) the network's outputs, if keep_samples was True.
        num_samples: weight samples; 0 for a prediction in one pass.
    """

    mean: Values
    aleatoric_variance: Values
    epistemic_variance: Values
    quantiles: Mapping[float, Values]
    log_prob: PerExample | None
    samples: PyTree
    num_samples: int

    @property
    def variance(self) -> Values:
        """The variance of the predictive distribution: aleatoric plus epistemic."""
        return self.aleatoric_variance + self.epistemic_variance

    @property
    def std(self) -> Values:
        variance = self.variance
        return jnp.sqrt(variance) if isinstance(variance, Array) else np.sqrt(variance)

    def interval(self, level: float) -> tuple[Values, Values]:
        """Returns the central interval that holds the target with probability `level`: (low, high).

        Its ends are among `quantiles`: predict(..., levels=(0.05, 0.95)) for level 0.9.
        """
        ends = (0.5 * (1 - level), 0.5 * (1 + level))
        found = [next((q for q in self.quantiles if abs(q - end) < 1e-9), None) for end in ends]
        if found[0] is None or found[1] is None:
            raise ValueError(
                f"The interval of level {level} needs the quantiles {ends[0]:.6g} and "
                f"{ends[1]:.6g}, and this prediction has {sorted(self.quantiles)}: compute them by "
                f"predict(..., levels=({ends[0]:.6g}, {ends[1]:.6g}))."
            )
        return self.quantiles[found[0]], self.quantiles[found[1]]
