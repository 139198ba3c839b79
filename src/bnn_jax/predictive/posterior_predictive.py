"""The posterior predictive of each example, and its uncertainty in two parts.

    prediction = predict(key, model, x, num_samples=32, likelihood=Categorical())
    prediction.probabilities, prediction.mutual_information

The uncertainty of a prediction is the sum of two parts:

- aleatoric: the noise of the target, which more data would not reduce. For classes it is the
  expected entropy E_w H[p(y | x, w)], for numbers the expected variance E_w Var[y | x, w];
- epistemic: the uncertainty about the weights. For classes it is the mutual information of target
  and weights, H[p(y | x)] - E_w H[p(y | x, w)], for numbers the variance Var_w E[y | x, w].

Weight sample s is drawn with fold_in(key, s) for all examples, antithetic pair i with fold_in(key,
i), so the result depends on the key and the number of samples and not on the chunks. One function
is compiled (`predictor.summarise`): for one chunk of examples it loops over the samples and keeps
running sums, so memory does not grow with either. `predictor.build` is the pure function for use
inside jit, grad, vmap and export.

Sources: Depeweg, Hernandez-Lobato, Doshi-Velez, Udluft 2018, arXiv:1710.07283 (the two parts);
Houlsby, Huszar, Ghahramani, Lengyel 2011, arXiv:1112.5745 (mutual information).
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, PyTree

from bnn_jax._compiler import compiler_options
from bnn_jax._parameters import check_count, check_key
from bnn_jax.devices import MeshLike, Placement, mesh_of
from bnn_jax.devices.meshes import mesh_of_arrays
from bnn_jax.devices.placement import put
from bnn_jax.devices.processes import whole
from bnn_jax.likelihoods import Likelihood
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import on_mesh
from bnn_jax.predictive.predictions import Classification as Classification
from bnn_jax.predictive.predictions import Regression as Regression
from bnn_jax.predictive.predictor import (
    check_examples,
    checked_likelihood,
    drawn_by,
    level_values,
    prediction,
    summarise,
    summary_of,
)


def predict(
    key: PRNGKey,
    model: object,
    x: PyTree,
    num_samples: int | None = None,
    *,
    likelihood: object,
    method: str = "samples",
    posterior: PyTree = None,
    variables: PyTree = None,
    targets: PyTree = None,
    batch_size: int = 1000,
    antithetic: bool = False,
    keep_samples: bool = False,
    levels: Sequence[float] = (),
    mesh: MeshLike = None,
    **kwargs: object,
) -> PyTree:
    """Returns the posterior predictive of each example, and its uncertainty in two parts.

    Args:
        key: a PRNG key.
        model: one of
            - what `to_bnn` returns;
            - a plain function (params, x) -> outputs, with `posterior`;
            - a function (key, x) -> outputs that draws noise of its own, such as MC dropout. It is
              called for one example at a time, under vmap, each with its own key.
        x: array (examples, ...), or a tuple of them, the arguments of the network. Examples must
            not influence each other, because they are computed in chunks.
        num_samples: number of weight samples; optional for a deterministic network or an ensemble.
        likelihood: one of `bnn_jax.likelihoods`; or a function of the outputs, whose mean and
            variance over weight samples are computed.
        method: "samples" averages over weight samples. "moments" propagates means and variances
            through the network in one pass, see `bnn_jax.moments` and `one_pass`: it draws
            nothing, so num_samples is left out and the key is not used. "moments_then_samples" does
            so up to operations without a rule, such as loops, and draws num_samples samples of what
            follows, see `moments.plan`. Both are for mean-field posteriors.
        posterior: a params tree with Gaussian leaves; one without, for a deterministic
            network; or a list of params trees, an ensemble. Default: the model's own.
        variables: the network's other state, such as batch statistics; for an ensemble, one for all
            or a list with one for each member. Default: the model's own.
        targets: array (examples, ...), for `log_prob`.
        batch_size: examples at a time. The last chunk is padded, so that one shape is compiled.
        antithetic: draw the weights in pairs with opposite noise: the same distribution, and means
            that vary less with the key.
        keep_samples: also return the network's output for each weight sample.
        levels: for regression, the levels of quantiles to compute, each in (0, 1). They need all
            samples of an example at once, so fewer examples are taken at a time.
        mesh: several devices: a `jax.sharding.Mesh` with the axes "data" or "samples" or both;
            their sizes, such as {"data": 4, "samples": 2}; or a number of devices or "all", which
            divide the examples. The result is that of one device, up to the order of sums.
            Default: the devices of x, targets or the posterior, if several processes hold them;
            then all must call predict, and each gets the whole result.
        kwargs: the network's own, such as train=False.

    Returns:
        A `Classification` or a `Regression`, of NumPy arrays in float32, or float64 where the
        outputs are.

    Raises:
        TypeError, ValueError: an invalid argument, before anything is computed; a call inside jit,
            grad or vmap, where `predictive.build` takes its place.
    """
    _check_not_traced(key, x, targets, posterior, variables, kwargs)
    check_key(key, "predict(key, model, x, num_samples, likelihood=...)")
    drawn = drawn_by(
        method, model, posterior, variables, num_samples, antithetic, keep_samples, kwargs
    )
    mesh = mesh_of_arrays((x, targets, drawn.data)) if mesh is None else mesh_of(mesh)
    placement = None if mesh is None else Placement(mesh)
    levels = level_values(levels)
    likelihood = checked_likelihood(likelihood, targets, levels)
    check_count("batch_size", batch_size)
    check_examples(x, targets)
    if targets is not None and isinstance(likelihood, Likelihood):
        likelihood.check_targets(whole(targets))
    count = len(jax.tree.leaves(x)[0])
    stacked = drawn.num_samples if keep_samples or levels else 0
    if levels:
        batch_size = max(1, batch_size * 32 // max(32, drawn.num_samples))
    batch_size = min(batch_size, count)
    fixed, padded = (key, drawn.data), batch_size
    if placement is not None:
        fixed, padded = placement.replicate(fixed), placement.padded(batch_size)
    static = {"likelihood": likelihood, "levels": levels, "stacked": stacked}
    summarised = partial(_compiled(summary_of(method), mesh), program=drawn.program, **static)
    chunks = []
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        examples = jax.tree.map(
            lambda a, start=start, size=size: _slice(a, start, size, padded), (x, targets)
        )
        if placement is not None:
            examples = put(examples, placement.examples)
        numbers = np.asarray(start, np.int32), np.asarray(drawn.num_samples, np.int32)
        chunk = summarised(*fixed, *examples, *numbers)
        if not keep_samples:
            del chunk["samples"]
        chunks.append({name: _kept(name, size, value) for name, value in chunk.items()})
    samples = 0 if method == "moments" else drawn.num_samples
    return prediction(likelihood, _joined(chunks), levels, samples)


@cache
def _compiled(
    summarise: Callable[..., dict[str, PyTree]] = summarise, mesh: Mesh | None = None
) -> Callable[..., dict[str, PyTree]]:
    return jax.jit(
        summarise if mesh is None else on_mesh.divided(summarise, mesh),
        static_argnames=("program", "likelihood", "levels", "stacked"),
        compiler_options=compiler_options(),
    )


def _check_not_traced(*arguments: PyTree) -> None:
    """Raises a TypeError inside jit, grad, vmap or scan."""
    if any(isinstance(a, Tracer) for a in jax.tree.leaves((arguments, jnp.zeros(())))):
        raise TypeError(
            "predict returns NumPy arrays, so it cannot be called inside jit, grad, vmap, scan or "
            "export: call the pure function predictive.build(model, likelihood, num_samples) "
            "there, as predictor(key, posterior, x)."
        )


def _slice(array: ArrayLike, start: int, size: int, padded: int) -> Array:
    """Returns `size` examples from `start` on, padded with zeros to `padded`."""
    part = jnp.asarray(array[start : start + size])  # type: ignore[index]
    return jnp.pad(part, [(0, padded - size)] + [(0, 0)] * (part.ndim - 1))


_SAMPLES_FIRST = ("samples", "quantiles")  # their examples are on axis 1


def _kept(name: str, size: int, value: PyTree) -> PyTree:
    """Returns NumPy arrays without the padding."""
    first = (slice(None),) if name in _SAMPLES_FIRST else ()
    return jax.tree.map(lambda a: np.asarray(a[(*first, slice(size))]), value)


def _joined(chunks: list[dict[str, PyTree]]) -> dict[str, PyTree]:
    return {
        name: jax.tree.map(
            lambda *parts, axis=int(name in _SAMPLES_FIRST): np.concatenate(parts, axis),
            *(chunk[name] for chunk in chunks),
        )
        for name in chunks[0]
    }
