"""The function that is exported: arrays in, a dict of arrays out, its weights constants.

kind        what it computes                                        inputs
"mean"      the network at the posterior mean                       examples
"members"   S weight samples, drawn at export, as one network       examples
"sampled"   the predictor: new weight samples at every call         key (uint32[2]), examples

"members" with a key averages over the networks of `predict` with that key.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, PyTree

from bnn_jax import gaussian, likelihoods, noise, posteriors
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import build, members
from bnn_jax.predictive.predictor import check_examples, checked_likelihood
from bnn_jax.predictive.running_sums import Function, Known
from bnn_jax.predictive.running_sums import of as sums_of

KINDS = ("mean", "members", "sampled")
BATCH = "batch"  # the name of the symbolic number of examples
KEY_IMPL = "threefry2x32"


@dataclasses.dataclass(frozen=True)
class Program:
    """What is exported.

    Attributes:
        call: (*inputs) -> {name: array}; of kind "sampled", (key words, *inputs).
        unrolled: the same with the members one after another instead of under `vmap`.
        examples: the example inputs.
        specs: shapes and dtypes of the arguments of `call`, the number of examples symbolic.
        outputs: shapes and dtypes of the results.
        kind, likelihood, num_samples: as exported.
        generator: of the noise, for kind "sampled".
    """

    call: Callable[..., dict[str, Array]]
    unrolled: Callable[..., dict[str, Array]]
    examples: tuple[Array, ...]
    specs: tuple[jax.ShapeDtypeStruct, ...]
    outputs: Mapping[str, jax.ShapeDtypeStruct]
    kind: str
    likelihood: Known | Function
    num_samples: int
    generator: str | None


def program(
    model: object,
    posterior: PyTree,
    likelihood: object,
    example_inputs: PyTree,
    *,
    kind: str,
    key: PRNGKey | None,
    num_samples: int | None,
    temperature: float | None,
    any_batch: bool,
    kwargs: Mapping[str, object],
) -> Program:
    """Checks the arguments of an export and returns its function; see `stablehlo`."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    checked = _tempered(checked_likelihood(likelihood, None, ()), temperature)
    examples = _arrays(example_inputs)
    check_examples(examples, None)
    if posterior is None:
        posterior = getattr(model, "posterior", None)
        if posterior is None:
            raise ValueError("A plain function needs its posterior, a params tree, to be exported.")
    count = 1
    if kind == "sampled":
        call = unrolled = _sampled(model, posterior, checked, num_samples, kwargs)
        count = num_samples or 1
    else:
        params, own = _mean(posterior) if kind == "mean" else _drawn(posterior, key, num_samples)
        count = 1 if kind == "mean" else len(jax.tree.leaves(params)[0])
        network = _network(model, count, own, kind, kwargs)
        call, unrolled = (
            _averaged(network, params, own, checked, kind, one_by_one=one_by_one)
            for one_by_one in (False, True)
        )
    specs = _specs(examples, kind, any_batch)
    return Program(
        call=call,
        unrolled=unrolled,
        examples=examples,
        specs=specs,
        outputs=_outputs(call, specs),
        kind=kind,
        likelihood=checked,
        num_samples=count,
        generator=noise.generator_in_use() if kind == "sampled" else None,
    )


def _tempered(likelihood: Known | Function, temperature: float | None) -> Known | Function:
    if temperature is None:
        return likelihood
    if not isinstance(likelihood, likelihoods.Categorical):
        raise ValueError(
            "A temperature divides the logits of Categorical(), and the likelihood is "
            f"{likelihood!r}: leave temperature out."
        )
    return dataclasses.replace(likelihood, temperature=float(temperature))


def _arrays(example_inputs: PyTree) -> tuple[Array, ...]:
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not all(hasattr(x, "dtype") for x in inputs):
        raise TypeError(
            "example_inputs must be an array (examples, ...) or a tuple of them, the arguments of "
            f"the network; got {[type(x).__name__ for x in inputs]}."
        )
    return tuple(jnp.asarray(x) for x in inputs)


def _specs(
    examples: tuple[Array, ...], kind: str, any_batch: bool
) -> tuple[jax.ShapeDtypeStruct, ...]:
    size: Any = export.symbolic_shape(BATCH)[0] if any_batch else len(examples[0])
    inputs = [jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for x in examples]
    words = [jax.ShapeDtypeStruct((2,), jnp.dtype("uint32"))] if kind == "sampled" else []
    return (*words, *inputs)


def _outputs(
    call: Callable[..., dict[str, Array]], specs: tuple[jax.ShapeDtypeStruct, ...]
) -> Mapping[str, jax.ShapeDtypeStruct]:
    try:
        return jax.eval_shape(call, *specs)
    except jax.errors.InconclusiveDimensionOperation as error:
        raise ValueError(
            "The network cannot be traced for any number of examples: it computes with its batch "
            "size. Pass any_batch=False to export it for the number of example_inputs. JAX says: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _sampled(
    model: object,
    posterior: PyTree,
    likelihood: Known | Function,
    num_samples: int | None,
    kwargs: Mapping[str, object],
) -> Callable[..., dict[str, Array]]:
    if num_samples is None:
        raise ValueError('kind="sampled" needs num_samples, the number of draws, such as 32.')
    options: dict[str, Any] = dict(kwargs)
    predictor = build(model, likelihood, num_samples, **options)

    def call(words: Array, *inputs: Array) -> dict[str, Array]:
        key = jax.random.wrap_key_data(words, impl=KEY_IMPL)
        fields = vars(predictor(key, posterior, inputs))
        return {name: value for name, value in fields.items() if isinstance(value, jax.Array)}

    return call


def _mean(posterior: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the params of the mean network and the variables that belong to it."""
    if isinstance(posterior, list | tuple | posteriors.Samples | posteriors.Mixture):
        raise ValueError(
            "The mean of an ensemble's params is not a trained network: export its networks with "
            'kind="members".'
        )
    if isinstance(posterior, posteriors.Posterior):
        return posterior.mean(), getattr(posterior, "variables", None)
    return gaussian.mean(posterior), None


def _drawn(
    posterior: PyTree, key: PRNGKey | None, num_samples: int | None
) -> tuple[PyTree, PyTree]:
    """Returns the members' params and their own variables, stacked on a new axis 0."""
    if isinstance(posterior, list | tuple):
        posterior = posteriors.Samples.of(posterior)
    if not isinstance(posterior, posteriors.Posterior):
        posterior = posteriors.MeanField(posterior)
    if isinstance(posterior, posteriors.HasOutputs):
        raise ValueError(
            f"{type(posterior).__name__} draws more than weights, so it has no fixed members: use "
            'kind="sampled".'
        )
    if isinstance(posterior, posteriors.MeanField) and not gaussian.random_leaves(posterior.tree):
        raise ValueError('The posterior has no random weights: use kind="mean".')
    size = posteriors.size(posterior)
    count = num_samples or size
    if count is None or (size is None and key is None):
        raise ValueError(
            'kind="members" draws its networks at export: pass key and num_samples, such as 16.'
        )
    key = jax.random.key(0) if key is None else key
    draws = [posteriors.draw(posterior, jax.random.fold_in(key, i), i) for i in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *draws)


def _network(
    model: object, count: int, own: PyTree, kind: str, kwargs: Mapping[str, object]
) -> Callable[..., PyTree]:
    """Returns (params, own variables, *inputs) -> outputs."""
    call = members.check(model, count)
    if getattr(model, "network", None) is None:
        return lambda params, _, *inputs: call(params, *inputs, **kwargs)
    shared = getattr(model, "variables", None)

    def network(params: PyTree, variables: PyTree, *inputs: Array) -> PyTree:
        return call(params, shared if own is None else variables, *inputs, **kwargs)

    return network


def _averaged(
    network: Callable[..., PyTree],
    params: PyTree,
    own: PyTree,
    likelihood: Known | Function,
    kind: str,
    *,
    one_by_one: bool,
) -> Callable[..., dict[str, Array]]:
    """Returns the summary of the members' outputs as a function of the inputs."""
    sums = sums_of(likelihood).of

    def terms(params: PyTree, own: PyTree, *inputs: Array) -> dict[str, Array]:
        return sums.terms(network(params, own, *inputs))

    def mean_network(*inputs: Array) -> dict[str, Array]:
        only = terms(params, own, *inputs)
        if isinstance(likelihood, likelihoods.Classification):
            return {"probabilities": only["probabilities"]}
        if isinstance(likelihood, likelihoods.Regression):
            return {"mean": only["mean"], "aleatoric_variance": only["variance"]}
        return {"mean": only["mean"]}

    if kind == "mean":
        return mean_network
    count = len(jax.tree.leaves(params)[0])
    trees = [jax.tree.map(lambda a, i=i: a[i], (params, own)) for i in range(count)]

    def means_of(each: Callable[..., dict[str, Array]], *inputs: Array) -> dict[str, Array]:
        """Returns the means over members of a function of (params, own variables, *inputs)."""
        if one_by_one:
            totals = [each(*tree, *inputs) for tree in trees]
            summed = jax.tree.map(lambda *a: functools.reduce(operator.add, a), *totals)
            return jax.tree.map(lambda total: total / count, summed)
        stacked = jax.vmap(lambda p, v: each(p, v, *inputs))(params, own)
        return jax.tree.map(lambda a: jnp.mean(a, axis=0), stacked)

    def averaged(*inputs: Array) -> dict[str, Array]:
        means = means_of(terms, *inputs)
        if isinstance(likelihood, likelihoods.Classification):
            total, expected = likelihood.entropy(means["probabilities"]), means["entropy"]
            return {
                "probabilities": means["probabilities"],
                "expected_entropy": expected,
                "mutual_information": jnp.maximum(total - expected, 0.0),
            }

        def square(params: PyTree, own: PyTree, *inputs: Array) -> dict[str, Array]:
            return {"": jnp.square(terms(params, own, *inputs)["mean"] - means["mean"])}

        return {
            "mean": means["mean"],
            "aleatoric_variance": means["variance"],
            "epistemic_variance": means_of(square, *inputs)[""],
        }

    return averaged
