"""The posterior predictive as a pure function of a key, a posterior and examples.

    predictor = predictive.build(model, likelihood, num_samples=32)
    prediction = predictor(key, posterior, x)

The function can be traced by JAX like any other: inside `jit`, `scan` and `shard_map`, under `vmap`
over keys or posteriors, differentiated by x or by the posterior, exported with a symbolic number of
examples. `predict` is this function in a loop over chunks of examples, compiled, with NumPy arrays
as its results.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from bnn_jax import likelihoods
from bnn_jax._parameters import describe
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import members, one_pass, then_samples
from bnn_jax.predictive.kinds import Data
from bnn_jax.predictive.members import Members, Program
from bnn_jax.predictive.mixture_quantiles import mixture_quantile
from bnn_jax.predictive.predictions import Classification, Regression
from bnn_jax.predictive.running_sums import Function, Known, Sums
from bnn_jax.predictive.sample_loop import Count, SampleLoop, number_of_groups


@runtime_checkable
class Predictor(Protocol):
    """A pure function that returns a prediction of JAX arrays."""

    def __call__(
        self,
        key: PRNGKey,
        posterior: PyTree,
        x: PyTree,
        targets: Array | None = None,
        *,
        variables: PyTree = None,
    ) -> PyTree:
        """Returns the posterior predictive of each example.

        Args:
            key: a PRNG key.
            posterior: as in `predict`; None for the model's own.
            x: array (examples, ...), or a tuple of them, the arguments of the network.
            targets: array (examples, ...), for `log_prob`.
            variables: the network's other state. Default: the posterior's or the model's own.

        Returns:
            A `Classification` or a `Regression` of JAX arrays.

        Raises:
            TypeError, ValueError: an invalid argument, while the function is traced.
        """
        ...


def build(
    model: object,
    likelihood: object,
    num_samples: int | None = None,
    *,
    method: str = "samples",
    antithetic: bool = False,
    keep_samples: bool = False,
    levels: Sequence[float] = (),
    **kwargs: object,
) -> Predictor:
    """Returns the posterior predictive as a pure function (key, posterior, x) -> prediction.

    With the same key it returns the numbers of `predict`, up to rounding. All examples are computed
    at once, so memory grows with their number; it grows with the samples under reverse-mode
    differentiation, with `keep_samples` and with `levels`. Quantiles have no reverse-mode
    derivative.

    Args:
        model, likelihood, num_samples: as in `predict`. The number is fixed: the loop over samples
            has a static length, as reverse-mode differentiation requires.
        method, antithetic, keep_samples, levels, kwargs: as in `predict`.

    Returns:
        A function that returns a `Classification` or a `Regression`, a pytree of JAX arrays.

    Raises:
        TypeError, ValueError: an invalid argument that can be told without the posterior.
    """
    levels = level_values(levels)
    checked = checked_likelihood(likelihood, None, levels)
    members.check(model, num_samples)

    def predictor(
        key: PRNGKey,
        posterior: PyTree,
        x: PyTree,
        targets: Array | None = None,
        *,
        variables: PyTree = None,
    ) -> Classification | Regression:
        checked_likelihood(checked, targets, levels)
        check_examples(x, targets)
        drawn = drawn_by(
            method, model, posterior, variables, num_samples, antithetic, keep_samples, kwargs
        )
        summary = summary_of(method)(
            key,
            drawn.data,
            x,
            targets,
            jnp.asarray(0),
            drawn.num_samples,
            program=drawn.program,
            likelihood=checked,
            levels=levels,
            stacked=drawn.num_samples if keep_samples or levels else 0,
        )
        if not keep_samples:
            summary["samples"] = None
        samples = 0 if method == "moments" else drawn.num_samples
        return prediction(checked, summary, levels, samples)

    return predictor


def summarise(
    key: PRNGKey,
    data: Data,
    x: PyTree,
    targets: Array | None,
    start: Array,
    num_samples: Count,
    *,
    program: Program,
    likelihood: Known | Function,
    levels: tuple[float, ...],
    stacked: int,
) -> dict[str, PyTree]:
    """Returns the summary of one chunk of examples, whose first example has the number `start`.

    Args:
        num_samples: an array for one program that serves any number of samples; an int for a loop
            that reverse-mode differentiation can pass.
        stacked: num_samples, to keep the outputs of all weight samples; otherwise 0.
    """
    data = program.prepared(data)
    indices = start + jnp.arange(jax.tree.leaves(x)[0].shape[0])
    loop = SampleLoop(program, likelihood, num_samples, bool(stacked))
    groups = number_of_groups(program, stacked or num_samples)
    total, outputs = loop.run(groups, key, data, x, targets, indices)
    if stacked:
        outputs = jax.tree.map(lambda a: a[:stacked], outputs)
    return summary_from(loop, total, outputs, levels)


def summary_from(
    loop: SampleLoop, total: Sums, outputs: PyTree, levels: tuple[float, ...]
) -> dict[str, PyTree]:
    """Returns the summary of a chunk of examples.

    Args:
        loop: what computed the sums.
        total: the sums over all members.
        outputs: those of all members, on a new axis 0, if they are kept.
        levels: of quantiles.
    """
    summary: dict[str, PyTree] = {
        **loop.sums.summary(total, jnp.asarray(loop.num_samples)),
        "samples": outputs,
    }
    if levels and not isinstance(loop.likelihood, likelihoods.Classification):
        summary["quantiles"] = jnp.stack(
            [mixture_quantile(loop.likelihood, outputs, level) for level in levels]
        )
    return summary


def drawn_by(
    method: str,
    model: object,
    posterior: PyTree,
    variables: PyTree,
    num_samples: int | None,
    antithetic: bool,
    keep_samples: bool,
    kwargs: Mapping[str, object],
) -> Members[PyTree]:
    """Checks the arguments of `predict`, and returns what its method evaluates."""
    if method == "moments":
        one_pass.check_unused(num_samples, antithetic, keep_samples)
        return one_pass.of(model, posterior, variables, kwargs)
    summary_of(method)
    of = then_samples.of if method == "moments_then_samples" else members.of
    return of(model, posterior, variables, num_samples, antithetic, kwargs)


def summary_of(method: str) -> Callable[..., dict[str, PyTree]]:
    """Returns the function that computes the summary of a chunk of examples."""
    methods = {
        "samples": summarise,
        "moments": one_pass.summarise,
        "moments_then_samples": summarise,
    }
    if method not in methods:
        raise ValueError(f"method must be one of {sorted(methods)}, got {method!r}.")
    return methods[method]


def prediction(
    likelihood: Known | Function,
    summary: dict[str, PyTree],
    levels: tuple[float, ...],
    num_samples: int,
) -> Classification | Regression:
    """Returns the prediction whose fields are those of the summary."""
    summary = {"log_prob": None, "samples": None, **summary, "num_samples": num_samples}
    if isinstance(likelihood, likelihoods.Classification):
        return Classification(**summary)
    quantiles = summary.pop("quantiles", ())
    return Regression(**summary, quantiles=dict(zip(levels, quantiles, strict=True)))


def checked_likelihood(
    likelihood: object, targets: PyTree, levels: tuple[float, ...]
) -> Known | Function:
    """Returns the likelihood, or the function of the outputs, if it fits the other arguments."""
    if isinstance(likelihood, type) or not (isinstance(likelihood, Known) or callable(likelihood)):
        raise TypeError(
            "likelihood must be one of bnn_jax.likelihoods, such as Categorical(), or a function "
            f"of the network's outputs; got {likelihood!r}."
        )
    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f"levels must be between 0 and 1, got {level}.")
    if levels and isinstance(likelihood, likelihoods.Classification):
        raise ValueError("Classes have no quantiles: leave levels out.")
    if targets is not None and not isinstance(likelihood, Known):
        raise ValueError(
            "targets need a likelihood, and a function of the outputs has no log probability: pass "
            "one of bnn_jax.likelihoods, or leave targets out."
        )
    return likelihood


def level_values(levels: object) -> tuple[float, ...]:
    """Returns the levels of quantiles as numbers.

    Raises:
        TypeError: they are no sequence of numbers.
    """
    try:
        return tuple(float(level) for level in levels)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"levels must be a sequence of numbers such as (0.05, 0.95), got {describe(levels)}."
        ) from error


def check_examples(x: PyTree, targets: PyTree) -> None:
    """Raises a ValueError unless all arrays have the same number of examples, at least one."""
    arrays = jax.tree.leaves(x) + jax.tree.leaves(targets)
    for array in arrays:
        if isinstance(array, np.ndarray | str) and np.asarray(array).dtype.kind not in "biufV":
            raise TypeError("Inputs and targets must be numbers, got text or objects.")
    lengths = [np.shape(a)[0] if np.ndim(a) else 0 for a in arrays]
    if not lengths or len(set(lengths)) > 1:
        raise ValueError(
            "All inputs and targets must be arrays with the same number of examples on axis 0, got "
            f"shapes {[tuple(np.shape(a)) for a in arrays]}."
        )
    if lengths[0] == 0:
        raise ValueError("x has no examples: its first axis has length 0.")
