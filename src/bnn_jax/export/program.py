"""The function that is exported: arrays in, a dict of arrays out, its weights constants.

kind        what it computes                                        inputs
"mean"      the network at the posterior mean                       examples
"members"   S weight samples, drawn at export, as one network       examples
"one_pass"  the predictor of method "moments", without sampling     examples
"sampled"   the predictor: new weight samples at every call         key (uint32[2]), examples

"members" with a key averages over the networks of `predict` with that key.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, PyTree

from bnn_jax import likelihoods, noise
from bnn_jax.export.members import averaged_over, drawn, mean_of, network_of
from bnn_jax.export.scaling import Scaling, scaled
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import build
from bnn_jax.predictive.predictor import check_examples, checked_likelihood
from bnn_jax.predictive.running_sums import Function, Known

KINDS = ("mean", "members", "one_pass", "sampled")
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
    key: PRNGKey | None = None,
    num_samples: int | None = None,
    antithetic: bool = False,
    temperature: float | None = None,
    scaling: Scaling | None = None,
    any_batch: bool = True,
    kwargs: Mapping[str, object],
) -> Program:
    """Checks the arguments of an export and returns its function; see `prepare`."""
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
    if kind == "one_pass":
        call = unrolled = _one_pass(model, posterior, checked, kwargs)
        count = 0
    elif kind == "sampled":
        call = unrolled = _sampled(model, posterior, checked, num_samples, antithetic, kwargs)
        count = num_samples or 1
    else:
        params, own = (
            mean_of(posterior)
            if kind == "mean"
            else drawn(posterior, key, num_samples, antithetic=antithetic)
        )
        count = 1 if kind == "mean" else len(jax.tree.leaves(params)[0])
        network = network_of(model, count, own, kind, kwargs)
        call, unrolled = (
            averaged_over(network, params, own, checked, kind, one_by_one=one_by_one)
            for one_by_one in (False, True)
        )
    if scaling is not None:
        call, unrolled = (scaled(f, scaling, checked, len(examples)) for f in (call, unrolled))
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
    antithetic: bool,
    kwargs: Mapping[str, object],
) -> Callable[..., dict[str, Array]]:
    if num_samples is None:
        raise ValueError('kind="sampled" needs num_samples, the number of draws, such as 32.')
    options: dict[str, Any] = dict(kwargs)
    predictor = build(model, likelihood, num_samples, antithetic=antithetic, **options)

    def call(words: Array, *inputs: Array) -> dict[str, Array]:
        key = jax.random.wrap_key_data(words, impl=KEY_IMPL)
        return _fields(predictor(key, posterior, inputs))

    return call


def _one_pass(
    model: object, posterior: PyTree, likelihood: Known | Function, kwargs: Mapping[str, object]
) -> Callable[..., dict[str, Array]]:
    options: dict[str, Any] = dict(kwargs)
    predictor = build(model, likelihood, method="moments", **options)
    return lambda *inputs: _fields(predictor(jax.random.key(0), posterior, inputs))


def _fields(predicted: object) -> dict[str, Array]:
    """Returns the arrays of a prediction by name."""
    return {name: value for name, value in vars(predicted).items() if isinstance(value, jax.Array)}
