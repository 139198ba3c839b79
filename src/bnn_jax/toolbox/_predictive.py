"""A predictive distribution of numbers as metrics are given it: mean and std, or samples."""

import numpy as np
from jaxtyping import Array, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn

Numbers = Float[ArrayIn, "examples *outputs"]
Samples = Float[ArrayIn, "samples examples *outputs"]


def mean_std_targets(mean: Numbers, std: Numbers, targets: Numbers) -> tuple[Array, Array, Array]:
    """The three in their widest type, checked to match, the std to be positive."""
    m, s, y = _examples.floats(mean=mean, std=std, targets=targets)
    _examples.check_positive("std", s)
    return m, s, y


def samples_and_targets(samples: Samples, targets: Numbers) -> tuple[Array, Array]:
    """Both in their widest type, checked to match."""
    if np.shape(samples)[1:] != np.shape(targets) or np.shape(samples)[:1] == (0,):
        raise ValueError(
            "samples have to be of shape (samples, *shape of the targets), at least one; got "
            f"{np.shape(samples)} for targets {np.shape(targets)}."
        )
    (x,), (y,) = _examples.floats(samples=samples), _examples.floats(targets=targets)
    dtype = np.result_type(x.dtype, y.dtype)
    return x.astype(dtype), y.astype(dtype)
