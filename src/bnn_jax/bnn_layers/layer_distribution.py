"""The prior and the posterior of one weight of a layer, with MindSpore's arguments."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from bnn_jax import gaussian, priors
from bnn_jax.bnn_layers import _arguments
from bnn_jax.gaussian import Gaussian, Leaf
from bnn_jax.noise import PRNGKey


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "std"), meta_fields=("dtype",))
@dataclasses.dataclass(frozen=True, init=False)
class NormalPrior(priors.NormalPrior):
    """N(mean, std) for each weight: `priors.NormalPrior` with MindSpore's order of arguments.

    Args:
        dtype: the dtype of samples. The KL divergence is computed in the dtype of the posterior.
        mean: the mean of the normal distribution.
        std: its standard deviation. The default is 0.1, as in MindSpore's code; MindSpore's
            documentation states 1.
    """

    dtype: DTypeLike = jnp.float32

    def __init__(self, dtype: DTypeLike = jnp.float32, mean: Leaf = 0, std: Leaf = 0.1) -> None:
        _float_dtype("NormalPrior", dtype)
        object.__setattr__(self, "dtype", dtype)
        super().__init__(mean, std)

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike | None = None
    ) -> Float[Array, "..."]:
        return super().sample(key, shape, self.dtype if dtype is None else dtype)


class NormalPosterior(nnx.Module):
    """The trained Gaussian of one weight, with the parameters `mean` and `untransformed_std`.

    std = softplus(untransformed_std) + 1e-6. Without rngs, the posterior has no values yet; the
    layer that receives it then draws the initial values with its own rngs.

    Args:
        name: the name of the weight, for errors.
        shape: the shape of the weight.
        dtype: the dtype of the parameters.
        loc_mean: the initial mean is drawn from N(loc_mean, loc_std).
        loc_std: see loc_mean.
        untransformed_scale_mean: the initial untransformed_std is drawn from
            N(untransformed_scale_mean, untransformed_scale_std); at -5 the std is 0.0067.
        untransformed_scale_std: see untransformed_scale_mean.
        rngs: if given, draws the initial values at once, from the stream `params`.

    Raises:
        TypeError: an argument has the wrong type or, as in MindSpore, a std is negative.
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
            raise TypeError(f"{owner}: name must be a str, got {name!r}.")
        if not isinstance(shape, tuple | list):
            raise TypeError(f"{owner}: shape must be a tuple or a list, got {shape!r}.")
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
        """Returns a posterior that starts at q, such as `gaussian.centred(weights, std)`."""
        posterior = cls(name, q.shape, q.dtype)
        posterior._set(q)
        return posterior

    def init(self, key: PRNGKey, dtype: DTypeLike | None = None) -> Gaussian:
        """Returns initial values drawn with the key: mean first, then untransformed_std."""
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
        """Draws the initial values and sets `mean` and `untransformed_std`."""
        self._set(self.init(rngs.params() if isinstance(rngs, nnx.Rngs) else rngs(), dtype))

    @property
    def is_materialised(self) -> bool:
        return hasattr(self, "mean")

    @property
    def gaussian(self) -> Gaussian:
        """The posterior as a `Gaussian`."""
        if not self.is_materialised:
            raise ValueError(
                f"The posterior {self.name!r} has no values yet: construct it with rngs=, or pass "
                "it to a layer, which draws them."
            )
        return Gaussian(mean=self.mean[...], rho=self.untransformed_std[...])

    def _set(self, q: Gaussian) -> None:
        self.mean = nnx.Param(q.mean)
        self.untransformed_std = nnx.Param(q.rho)
        self.dtype = q.dtype


def normal_post_fn(name: str, shape: tuple[int, ...] | list[int]) -> NormalPosterior:
    """Returns a `NormalPosterior` with the default arguments: MindSpore's default posterior."""
    return NormalPosterior(name=name, shape=shape)


def _spread(owner: str, name: str, value: object) -> float:
    std = _arguments.number(owner, name, value)
    if std < 0:
        raise TypeError(f"{owner}: {name} must be at least 0, got {value!r}.")
    return std


def _float_dtype(owner: str, dtype: DTypeLike) -> None:
    try:
        is_float = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        is_float = False
    if not is_float:
        raise TypeError(f"{owner}: dtype must be a floating-point dtype, got {dtype!r}.")
