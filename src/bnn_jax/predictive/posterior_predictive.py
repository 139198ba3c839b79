"""The posterior predictive: what a Bayesian network says about each example, and how sure it is.

    prediction = predict(key, model, x, num_samples=32, likelihood=Categorical())
    prediction.probabilities, prediction.mutual_information

The uncertainty of a prediction has two parts, and they add up to the whole:

- aleatoric, the noise of the target that no data would remove. For classes it is the expected
  entropy E_w H[p(y | x, w)], for numbers the expected variance E_w Var[y | x, w];
- epistemic, what the network does not know: the mutual information H[p(y | x)] - E_w H[p(y | x, w)]
  of target and weights, or the variance Var_w E[y | x, w] over weights.

Weight sample s is drawn with fold_in(key, s) for all examples, antithetic pair i with fold_in(key,
i), so the answer depends on the key and
the number of samples and not on the chunks. One function is compiled: for one chunk of examples it
loops over the samples and keeps running sums, so memory grows with neither.

Sources: Depeweg, Hernandez-Lobato, Doshi-Velez, Udluft 2018, arXiv:1710.07283 (the two parts);
Houlsby, Huszar, Ghahramani, Lengyel 2011, arXiv:1112.5745 (mutual information).
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from bnn_jax import likelihoods
from bnn_jax._compiler import compiler_options
from bnn_jax.likelihoods import Likelihood
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import members, running_sums
from bnn_jax.predictive.members import Program
from bnn_jax.predictive.mixture_quantiles import mixture_quantile
from bnn_jax.predictive.predictions import Classification as Classification
from bnn_jax.predictive.predictions import Regression as Regression


def predict(
    key: PRNGKey,
    model: Any,
    x: PyTree,
    num_samples: int | None = None,
    *,
    likelihood: Any,
    posterior: Any = None,
    variables: PyTree = None,
    targets: Any = None,
    batch_size: int = 1000,
    antithetic: bool = False,
    keep_samples: bool = False,
    levels: Sequence[float] = (),
    **kwargs: Any,
) -> Any:
    """The posterior predictive of each example, and its uncertainty in two parts.

    Args:
        key: with num_samples it determines the answer.
        model: one of
            - what `to_bnn` returns;
            - a plain function (params, x) -> outputs, with `posterior`;
            - a function (key, x) -> outputs that draws noise of its own, such as MC dropout. It is
              called for one example at a time, under vmap, each with its own key.
        x: array (examples, ...), or a tuple of them, the arguments of the network. Examples must
            not influence each other, or the chunks would count.
        num_samples: weight samples. It may be left out for a deterministic network and an ensemble.
        likelihood: one of `bnn_jax.likelihoods`; or a function of the outputs, whose mean and
            variance over weight samples are wanted.
        posterior: a params tree with Gaussian leaves, to draw from; without, a deterministic
            network; or a list of params trees, an ensemble. Default: the model's own.
        variables: the network's other state, if not the model's own, such as batch statistics; of
            an ensemble, one for all or a list with one for each member.
        targets: array (examples, ...); asks for `log_prob`.
        batch_size: examples at a time. The last chunk is padded, so that one shape is compiled.
        antithetic: draw the weights in pairs with opposite noise: the same law, and means that
            vary less with the key.
        keep_samples: also return the network's output for each weight sample.
        levels: for regression, the levels of quantiles to compute, each in (0, 1). They need all
            samples of an example at once, so fewer examples are taken at a time.
        kwargs: the network's own, such as train=False.

    Returns:
        A `Classification` or a `Regression`, of NumPy arrays in float32, or float64 where the
        outputs are.

    Raises:
        TypeError, ValueError: a wrong call, before anything is computed.
    """
    drawn = members.of(model, posterior, variables, num_samples, antithetic, kwargs)
    levels = tuple(float(level) for level in levels)
    count = _check(likelihood, x, targets, batch_size, levels)
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
def _compiled() -> Any:
    return jax.jit(
        _summarise,
        static_argnames=("program", "likelihood", "levels", "stacked"),
        compiler_options=compiler_options(),
    )


def _summarise(
    key: PRNGKey,
    data: Any,
    x: PyTree,
    targets: Array | None,
    start: Array,
    num_samples: Array,
    *,
    program: Program,
    likelihood: Any,
    levels: tuple[float, ...],
    stacked: int,
) -> dict[str, Any]:
    """The summary of one chunk of examples, the first of which has the number `start`.

    Args:
        stacked: 0, or num_samples: then the outputs of all weight samples are kept.
    """
    sums = running_sums.of(likelihood)
    data = program.prepared(data)
    indices = start + jnp.arange(len(jax.tree.leaves(x)[0]))

    def outputs_of(group: Array) -> tuple[Any, ...]:
        return program.outputs(key, data, group, x, indices)

    def add_group(group: Array, total: Any) -> Any:
        return add(total, group, outputs_of(group))

    def add(total: Any, group: Array, members: tuple[Any, ...]) -> Any:
        for i, outputs in enumerate(members):
            s = group * program.group_size + i
            added = sums.add(total, s, outputs, targets)
            # The last group may have more members than were asked for, but never none.
            total = added if i == 0 else _where(s < num_samples, added, total)
        return total

    def add_and_keep(total: Any, group: Array) -> tuple[Any, Any]:
        members = outputs_of(group)
        return add(total, group, members), jax.tree.map(lambda *a: jnp.stack(a), *members)

    zero = sums.zero(jax.eval_shape(lambda: outputs_of(jnp.asarray(0))[0]), targets)
    outputs = None
    if stacked:
        total, groups = jax.lax.scan(add_and_keep, zero, jnp.arange(_groups(program, stacked)))
        outputs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:stacked], groups)
    else:
        total = jax.lax.fori_loop(0, _groups(program, num_samples), add_group, zero)
    summary: dict[str, Any] = {**sums.summary(total, num_samples), "samples": outputs}
    if levels:
        summary["quantiles"] = jnp.stack(
            [mixture_quantile(likelihood, outputs, level) for level in levels]
        )
    return summary


def _groups(program: Program, num_samples: Any) -> Any:
    """How many groups hold so many members."""
    return -(-num_samples // program.group_size)


def _where(condition: Array, this: PyTree, otherwise: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), this, otherwise)


def _check(
    likelihood: Any, x: PyTree, targets: Any, batch_size: int, levels: tuple[float, ...]
) -> int:
    """Refuse a wrong call; the number of examples."""
    if isinstance(likelihood, type) or not callable(getattr(likelihood, "log_prob", likelihood)):
        raise TypeError(
            "likelihood has to be one of bnn_jax.likelihoods, such as Categorical(), or a function "
            f"of the network's outputs; got {likelihood!r}."
        )
    if isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size has to be a whole number >= 1, got {batch_size!r}.")
    arrays = jax.tree.leaves(x) + jax.tree.leaves(targets)
    lengths = [len(a) if np.ndim(a) else 0 for a in arrays]
    if not lengths or len(set(lengths)) > 1:
        raise ValueError(
            "All inputs and targets are arrays with the same number of examples on axis 0, got "
            f"shapes {[tuple(np.shape(a)) for a in arrays]}."
        )
    if lengths[0] == 0:
        raise ValueError("There are no inputs to predict for: the first axis has length 0.")
    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f"levels of quantiles lie between 0 and 1, got {level}.")
    if levels and isinstance(likelihood, likelihoods.Classification):
        raise ValueError("Classes have no quantiles: leave levels out.")
    if targets is not None and not isinstance(likelihood, Likelihood):
        raise ValueError(
            "targets ask for their log probability, which a function of the outputs does not "
            "tell: pass one of bnn_jax.likelihoods, or leave targets out."
        )
    return lengths[0]


def _slice(array: Any, start: int, size: int, padded: int) -> Array:
    """`size` examples from `start` on, with zeros behind them up to `padded`."""
    part = jnp.asarray(array[start : start + size])
    return jnp.pad(part, [(0, padded - size)] + [(0, 0)] * (part.ndim - 1))


_SAMPLES_FIRST = ("samples", "quantiles")  # their examples are on axis 1


def _kept(name: str, size: int, value: PyTree) -> PyTree:
    """Without the padding, off the device."""
    first = (slice(None),) if name in _SAMPLES_FIRST else ()
    return jax.tree.map(lambda a: np.asarray(a[(*first, slice(size))]), value)


def _joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: jax.tree.map(
            lambda *parts, axis=int(name in _SAMPLES_FIRST): np.concatenate(parts, axis),
            *(chunk[name] for chunk in chunks),
        )
        for name in chunks[0]
    }


def _prediction(
    likelihood: Any, summary: dict[str, Any], levels: tuple[float, ...], num_samples: int
) -> Classification | Regression:
    summary = {"log_prob": None, "samples": None, **summary, "num_samples": num_samples}
    if isinstance(likelihood, likelihoods.Classification):
        return Classification(**summary)
    quantiles = summary.pop("quantiles", ())
    return Regression(**summary, quantiles=dict(zip(levels, quantiles, strict=True)))
