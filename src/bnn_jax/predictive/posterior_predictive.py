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
is compiled: for one chunk of examples it loops over the samples and keeps running sums, so memory
does not grow with either.

Sources: Depeweg, Hernandez-Lobato, Doshi-Velez, Udluft 2018, arXiv:1710.07283 (the two parts);
Houlsby, Huszar, Ghahramani, Lengyel 2011, arXiv:1112.5745 (mutual information).
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from bnn_jax import likelihoods
from bnn_jax._compiler import compiler_options
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import members, running_sums
from bnn_jax.predictive.kinds import Data
from bnn_jax.predictive.members import Program
from bnn_jax.predictive.mixture_quantiles import mixture_quantile
from bnn_jax.predictive.predictions import Classification as Classification
from bnn_jax.predictive.predictions import Regression as Regression
from bnn_jax.predictive.running_sums import Function, Known, Sums

Count = TypeVar("Count", int, Array)


def predict(
    key: PRNGKey,
    model: object,
    x: PyTree,
    num_samples: int | None = None,
    *,
    likelihood: object,
    posterior: PyTree = None,
    variables: PyTree = None,
    targets: PyTree = None,
    batch_size: int = 1000,
    antithetic: bool = False,
    keep_samples: bool = False,
    levels: Sequence[float] = (),
    **kwargs: object,
) -> Any:
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
        kwargs: the network's own, such as train=False.

    Returns:
        A `Classification` or a `Regression`, of NumPy arrays in float32, or float64 where the
        outputs are.

    Raises:
        TypeError, ValueError: an invalid argument, before anything is computed.
    """
    drawn = members.of(model, posterior, variables, num_samples, antithetic, kwargs)
    levels = tuple(float(level) for level in levels)
    likelihood = _checked_likelihood(likelihood, targets, levels)
    count = _num_examples(x, targets, batch_size)
    stacked = drawn.num_samples if keep_samples or levels else 0
    if levels:
        batch_size = max(1, batch_size * 32 // max(32, drawn.num_samples))
    batch_size = min(batch_size, count)
    chunks = []
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        inputs, wanted = jax.tree.map(
            lambda a, start=start, size=size: _slice(a, start, size, batch_size), (x, targets)
        )
        chunk = _compiled()(
            key,
            drawn.data,
            inputs,
            wanted,
            jnp.asarray(start),
            jnp.asarray(drawn.num_samples),
            program=drawn.program,
            likelihood=likelihood,
            levels=levels,
            stacked=stacked,
        )
        if not keep_samples:
            del chunk["samples"]
        chunks.append({name: _kept(name, size, value) for name, value in chunk.items()})
    return _prediction(likelihood, _joined(chunks), levels, drawn.num_samples)


@cache
def _compiled() -> Callable[..., dict[str, PyTree]]:
    return jax.jit(
        _summarise,
        static_argnames=("program", "likelihood", "levels", "stacked"),
        compiler_options=compiler_options(),
    )


def _summarise(
    key: PRNGKey,
    data: Data,
    x: PyTree,
    targets: Array | None,
    start: Array,
    num_samples: Array,
    *,
    program: Program,
    likelihood: Known | Function,
    levels: tuple[float, ...],
    stacked: int,
) -> dict[str, PyTree]:
    """Returns the summary of one chunk of examples, whose first example has the number `start`.

    Args:
        stacked: num_samples, to keep the outputs of all weight samples; otherwise 0.
    """
    sums = running_sums.of(likelihood)
    data = program.prepared(data)
    indices = start + jnp.arange(len(jax.tree.leaves(x)[0]))

    def outputs_of(group: Array) -> tuple[PyTree, ...]:
        return program.outputs(key, data, group, x, indices)

    def add_group(group: Array, total: Sums) -> Sums:
        return add(total, group, outputs_of(group))

    def add(total: Sums, group: Array, group_outputs: tuple[PyTree, ...]) -> Sums:
        for i, outputs in enumerate(group_outputs):
            s = group * program.group_size + i
            added = sums.add(total, s, outputs, targets)
            # The last group may have more members than requested, and has at least one.
            total = added if i == 0 else _where(s < num_samples, added, total)
        return total

    def add_and_keep(total: Sums, group: Array) -> tuple[Sums, PyTree]:
        group_outputs = outputs_of(group)
        kept = jax.tree.map(lambda *a: jnp.stack(a), *group_outputs)
        return add(total, group, group_outputs), kept

    zero = sums.zero(jax.eval_shape(lambda: outputs_of(jnp.asarray(0))[0]), targets)
    outputs = None
    if stacked:
        total, groups = jax.lax.scan(add_and_keep, zero, jnp.arange(_groups(program, stacked)))
        outputs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:stacked], groups)
    else:
        total = jax.lax.fori_loop(0, _groups(program, num_samples), add_group, zero)
    summary: dict[str, PyTree] = {**sums.summary(total, num_samples), "samples": outputs}
    if levels and not isinstance(likelihood, likelihoods.Classification):
        summary["quantiles"] = jnp.stack(
            [mixture_quantile(likelihood, outputs, level) for level in levels]
        )
    return summary


def _groups(program: Program, num_samples: Count) -> Count:
    """Returns the number of groups for num_samples members."""
    return -(-num_samples // program.group_size)


def _where(condition: Array, this: PyTree, otherwise: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), this, otherwise)


def _checked_likelihood(
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


def _num_examples(x: PyTree, targets: PyTree, batch_size: int) -> int:
    if isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}.")
    arrays = jax.tree.leaves(x) + jax.tree.leaves(targets)
    lengths = [len(a) if np.ndim(a) else 0 for a in arrays]
    if not lengths or len(set(lengths)) > 1:
        raise ValueError(
            "All inputs and targets must be arrays with the same number of examples on axis 0, got "
            f"shapes {[tuple(np.shape(a)) for a in arrays]}."
        )
    if lengths[0] == 0:
        raise ValueError("x has no examples: its first axis has length 0.")
    return lengths[0]


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


def _prediction(
    likelihood: Known | Function,
    summary: dict[str, PyTree],
    levels: tuple[float, ...],
    num_samples: int,
) -> Classification | Regression:
    summary = {"log_prob": None, "samples": None, **summary, "num_samples": num_samples}
    if isinstance(likelihood, likelihoods.Classification):
        return Classification(**summary)
    quantiles = summary.pop("quantiles", ())
    return Regression(**summary, quantiles=dict(zip(levels, quantiles, strict=True)))
