"""The prior and the posterior of one weight of a layer, with MindSpore's arguments."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from bnn_jax import gaussian, priors
from bnn_jax.bnn_layers import _arguments
from bnn_jax.gaussian import Gaussian
from bnn_jax.noise import PRNGKey


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "std"), meta_fields=("dtype",))
@dataclasses.dataclass(frozen=True, init=False)
class NormalPrior(priors.NormalPrior):
    """N(mean, std) for each weight: `priors.NormalPrior` with MindSpore's order of arguments.

    Args:
        dtype: the dtype of its draws. The KL divergence is computed in the posterior's.
        mean: mean of the normal distribution.
        std: its standard deviation. (MindSpore's documentation says that the default is a standard
            normal; it is this 0.1.)
    """

    dtype: Any = jnp.float32

    def __init__(self, dtype: Any = jnp.float32, mean: Any = 0, std: Any = 0.1) -> None:
        _float_dtype("NormalPrior", dtype)
        object.__setattr__(self, "dtype", dtype)
        super().__init__(mean, std)

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike | None = None
    ) -> Float[Array, "..."]:
        return super().sample(key, shape, self.dtype if dtype is None else dtype)


class NormalPosterior(nnx.Module):
    """The trained Gaussian of one weight: parameters `mean` and `untransformed_std`.

    std = softplus(untransformed_std) + 1e-6. Without rngs it is a description only, as a posterior
    function returns it; the layer then draws the initial values with its own rngs.

    Args:
        name: its name, for errors.
        shape: the weight's shape.
        dtype: the parameters' dtype.
        loc_mean: the initial mean is drawn from N(loc_mean, loc_std).
        loc_std: see loc_mean.
        untransformed_scale_mean: the initial untransformed_std is drawn from
            N(untransformed_scale_mean, untransformed_scale_std); at -5 the std is 0.0067.
        untransformed_scale_std: see untransformed_scale_mean.
        rngs: draws the initial values now, from its stream `params`.

    Raises:
        TypeError: an argument of the wrong type, or, as in MindSpore, a negative std.
    """

    mean: nnx.Param[Array]
    untransformed_std: nnx.Param[Array]

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...] | list[int],
        dtype: DTypeLike = jnp.float32,
        loc_mean: float = 0,
        loc_std: float = 0.1,
        untransformed_scale_mean: float = -5,
        untransformed_scale_std: float = 0.1,
        *,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> None:
        owner = "NormalPosterior"
        if not isinstance(name, str):
            raise TypeError(f"{owner} needs a str as name, got {name!r}.")
        if not isinstance(shape, tuple | list):
            raise TypeError(f"{owner} needs a tuple or a list as shape, got {shape!r}.")
        _float_dtype(owner, dtype)
        self.name = name
        self.shape = tuple(_arguments.positive_int(owner, "each side of shape", n) for n in shape)
        self.dtype = dtype
        self.loc_mean = _arguments.number(owner, "loc_mean", loc_mean)
        self.loc_std = _spread(owner, "loc_std", loc_std)
        self.untransformed_scale_mean = _arguments.number(
            owner, "untransformed_scale_mean", untransformed_scale_mean
        )
        self.untransformed_scale_std = _spread(
            owner, "untransformed_scale_std", untransformed_scale_std
        )
        if rngs is not None:
            self.materialise(rngs)

    @classmethod
    def around(cls, name: str, q: Gaussian) -> "NormalPosterior":
        """The posterior that starts at a Gaussian, such as `gaussian.centred(weights, std)`."""
        posterior = cls(name, q.shape, q.dtype)
        posterior._set(q)
        return posterior

    def init(self, key: PRNGKey, dtype: DTypeLike | None = None) -> Gaussian:
        """Initial values drawn with the key: mean first, then untransformed_std."""
        return gaussian.init(
            key,
            self.shape,
            self.dtype if dtype is None else dtype,
            loc_mean=self.loc_mean,
            loc_std=self.loc_std,
            rho_mean=self.untransformed_scale_mean,
            rho_std=self.untransformed_scale_std,
        )

    def materialise(self, rngs: nnx.Rngs | nnx.RngStream, dtype: DTypeLike | None = None) -> None:
        """Draw the initial values into `mean` and `untransformed_std`."""
        self._set(self.init(rngs.params() if isinstance(rngs, nnx.Rngs) else rngs(), dtype))

    @property
    def is_materialised(self) -> bool:
        return hasattr(self, "mean")

    @property
    def gaussian(self) -> Gaussian:
        """The posterior as the rest of bnn_jax knows it."""
        if not self.is_materialised:
            raise ValueError(
                f"The posterior {self.name!r} has no values yet: construct it with rngs=, or hand "
                "it to a layer, which draws them."
            )
        return Gaussian(mean=self.mean[...], rho=self.untransformed_std[...])

    def _set(self, q: Gaussian) -> None:
        self.mean = nnx.Param(q.mean)
        self.untransformed_std = nnx.Param(q.rho)
        self.dtype = q.dtype


def normal_post_fn(name: str, shape: tuple[int, ...] | list[int]) -> NormalPosterior:
    """MindSpore's default posterior function."""
    return NormalPosterior(name=name, shape=shape)


def _spread(owner: str, name: str, value: Any) -> float:
    if _arguments.number(owner, name, value) < 0:
        raise TypeError(f"{owner} needs {name} >= 0, got {value!r}.")
    return value


def _float_dtype(owner: str, dtype: Any) -> None:
    try:
        is_float = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        is_float = False
    if not is_float:
        raise TypeError(f"{owner} needs a floating-point dtype as dtype, got {dtype!r}.")
