"""The base class of the Bayesian layers: weight and bias, their priors, posteriors and KL."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, DTypeLike, Float

from bnn_jax import priors
from bnn_jax.bnn_layers._functions import check_posterior, check_prior
from bnn_jax.bnn_layers.layer_distribution import NormalPosterior
from bnn_jax.gaussian import Gaussian
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import Prior

RngSource = nnx.Rngs | nnx.RngStream | PRNGKey

# The layers' arguments `weight_prior_fn` and `weight_posterior_fn`. A posterior function is called
# with name= and shape=.
PriorSource = Prior | Callable[[], Prior]
PosteriorSource = Callable[..., NormalPosterior | Gaussian]


class PriorValue(nnx.Variable):
    """A prior that contains arrays. It is saved with the model and not trained."""


class BayesianLayer(nnx.Module):
    """The base class of the Bayesian layers.

    Attributes:
        weight_posterior, bias_posterior: the posteriors; bias_posterior only with has_bias.
        weight_prior, bias_prior: the priors. A prior that contains arrays is a `PriorValue`.
        deterministic: use the means. `model.eval()` sets it to True and `model.train()` to False;
            `model.set_attributes(BayesianLayer, deterministic=False)` samples in evaluation mode.
        rngs: the random stream of this layer.
    """

    def _setup(
        self,
        shape: tuple[int, ...],
        has_bias: bool,
        weight: tuple[object, object],
        bias: tuple[object, object],
        *,
        deterministic: bool | None,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike | None,
        precision: lax.PrecisionLike,
        rng_collection: str,
        rngs: nnx.Rngs | nnx.RngStream,
    ) -> None:
        layer = type(self).__name__
        if not isinstance(rngs, nnx.Rngs | nnx.RngStream):
            raise TypeError(f"{layer}: rngs must be an nnx.Rngs or an nnx.RngStream, got {rngs!r}.")
        self.has_bias = has_bias
        self.deterministic = deterministic
        self.dtype = dtype
        self.precision = precision
        self.rng_collection = rng_collection

        def make(
            which: str, fns: tuple[object, object], shape: tuple[int, ...]
        ) -> tuple[Prior | PriorValue, NormalPosterior]:
            prior = check_prior(fns[0], layer, f"{which}_prior_fn", shape)
            argument = f"{which}_posterior_fn"
            posterior = check_posterior(fns[1], layer, argument, f"bnn_{which}", shape)
            return _stored(prior), posterior

        made = [make("weight", weight, shape)]
        if has_bias:
            made.append(make("bias", bias, shape[-1:]))
        for _, posterior in made:
            if not posterior.is_materialised:
                posterior.materialise(rngs, param_dtype)
        self.weight_prior, self.weight_posterior = made[0]
        if has_bias:
            self.bias_prior, self.bias_posterior = made[1]
        stream = rngs[rng_collection] if isinstance(rngs, nnx.Rngs) else rngs
        self.rngs = stream.fork()

    def random_weights(self) -> dict[str, tuple[NormalPosterior, Prior]]:
        """Returns the posterior and the prior of `weight`, and of `bias` if the layer has one."""
        weights = {"weight": (self.weight_posterior, _value(self.weight_prior))}
        if self.has_bias:
            weights["bias"] = (self.bias_posterior, _value(self.bias_prior))
        return weights

    def compute_kl_loss(
        self, reverse: bool = False, *, rngs: RngSource | None = None
    ) -> Float[Array, ""]:
        """Returns KL(posterior || prior) of weight and bias in nats, summed over their elements.

        Args:
            reverse: return KL(prior || posterior), as MindSpore does.
            rngs: the noise of the Monte Carlo estimate for priors without a closed form, instead
                of the layer's own stream. The estimate uses one sample of each weight, which is
                independent of the samples of the forward pass.
        """
        return sum(
            (self._kl(q, p, reverse, rngs) for q, p in self.random_weights().values()),
            start=jnp.zeros(()),
        )

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets the mode of the layer. `nnx.view` calls this method."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, deterministic: bool | None, rngs: RngSource | None) -> PRNGKey | None:
        """Returns the key of this call, or None if the call uses the mean."""
        chosen = self.deterministic if deterministic is None else deterministic
        if chosen is None:
            raise ValueError(
                f"{type(self).__name__} was created with deterministic=None: pass "
                "deterministic=True (the mean) or False (a sample) to each call."
            )
        return None if chosen else self._next_key(rngs)

    def _next_key(self, rngs: RngSource | None) -> PRNGKey:
        source = self.rngs if rngs is None else rngs
        if isinstance(source, nnx.Rngs):
            return source[self.rng_collection]()
        if isinstance(source, nnx.RngStream):
            return source()
        if isinstance(source, jax.Array):
            return source
        raise TypeError(
            f"{type(self).__name__}: rngs must be an nnx.Rngs, an nnx.RngStream or a key, "
            f"got {source!r}."
        )

    def _kl(
        self, q: NormalPosterior, prior: Prior, reverse: bool, rngs: RngSource | None
    ) -> Float[Array, ""]:
        closed = prior.kl(q.gaussian, reverse=reverse)
        if closed is not None:
            return priors.total(closed)
        key = self._next_key(rngs)
        return priors.kl_divergence(q.gaussian, prior, key=key, reverse=reverse)


def bayesian_layers(module: nnx.Module) -> Iterator[tuple[str, BayesianLayer]]:
    """Yields (dotted path, layer) of each Bayesian layer once, the module itself included."""
    for path, layer in nnx.iter_modules(module):
        if isinstance(layer, BayesianLayer):
            yield ".".join(map(str, path)), layer


def kl_by_layer(
    module: nnx.Module, reverse: bool = False, *, rngs: RngSource | None = None
) -> dict[str, Float[Array, ""]]:
    """Returns {dotted path: KL(posterior || prior) in nats} of the Bayesian layers.

    A layer that the module contains twice counts once, under one of its paths. The same applies to
    a posterior that two layers share.
    """
    seen: set[int] = set()
    kl: dict[str, Float[Array, ""]] = {}
    for path, layer in bayesian_layers(module):
        kl[path] = jnp.zeros(())
        for q, p in layer.random_weights().values():
            if id(q) not in seen:
                seen.add(id(q))
                kl[path] = kl[path] + layer._kl(q, p, reverse, rngs)
    return kl


def _stored(prior: Prior) -> Prior | PriorValue:
    """Returns a prior of numbers unchanged, and a prior with arrays as a variable of the state."""
    leaves = jax.tree.leaves(prior)
    if all(isinstance(leaf, int | float) for leaf in leaves):
        return prior
    return PriorValue(jax.tree.map(jnp.asarray, prior))


def _value(prior: Prior | PriorValue) -> Prior:
    return prior.get_value() if isinstance(prior, PriorValue) else prior
