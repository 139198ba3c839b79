"""Predictive distributions of numbers, given by mean and std or by samples."""

import numpy as np
from jaxtyping import Array, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn

Numbers = Float[ArrayIn, "examples *outputs"]
Samples = Float[ArrayIn, "samples examples *outputs"]


def mean_std_targets(mean: Numbers, std: Numbers, targets: Numbers) -> tuple[Array, Array, Array]:
    """Converts the three to their widest type; they must be finite, and the std positive."""
    m, s, y = _examples.finite_floats(mean=mean, std=std, targets=targets)
    _examples.check_positive("std", s)
    return m, s, y


def samples_and_targets(samples: Samples, targets: Numbers) -> tuple[Array, Array]:
    """Converts both to their widest type; they must be finite and their shapes must match."""
    if np.shape(samples)[1:] != np.shape(targets) or np.shape(samples)[:1] == (0,):
        raise ValueError(
            "samples must be of shape (samples, *shape of the targets), at least one; got "
            f"{np.shape(samples)} for targets {np.shape(targets)}."
        )
    (x,) = _examples.finite_floats(samples=samples)
    (y,) = _examples.finite_floats(targets=targets)
    dtype = np.result_type(x.dtype, y.dtype)
    return x.astype(dtype), y.astype(dtype)
