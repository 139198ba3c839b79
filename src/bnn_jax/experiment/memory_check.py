"""The memory that a run needs at least, which is compared with the machine's before it starts.

Every number here is a lower bound, so that no run that fits is refused:

- the state of training: the weights, times the copies that the method keeps (the two parameters of
  a Gaussian, Adam's moments, samples of a chain, members of an ensemble);
- one batch: the inputs with their padding, and the largest output of a layer for all examples of a
  batch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jaxtyping import PyTree

from bnn_jax.config.schema import Config
from bnn_jax.data import memory
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.infer.method import Method
from bnn_jax.infer.methods.ensemble import Ensemble
from bnn_jax.transforms import BayesianModel

Examples = Images | Points | Arrays
MAX_STEPS = 2**31 - 1  # steps are counted in int32

_LAYERS = ("dot_general", "conv_general_dilated")


def check_state(
    config: Config, method: Method, network: nn.Module | nnx.Module, variables: PyTree
) -> None:
    """Checks that the state of training fits the memory.

    Args:
        config: the settings.
        method: the inference method.
        network: the module.
        variables: the shapes of its initial variables; None for an NNX module, which has them.

    Raises:
        RunError: it does not.
    """
    params: PyTree = variables["params"] if variables else nnx.state(network, nnx.Param)
    weights = size_of(params)
    copies = _copies(method, config)
    _refuse(
        weights * copies,
        f"training of {_count(params)} weights by {method.name}",
        "make the network smaller (model), or lower the number of samples or members (inference)",
    )


def check_batch(config: Config, method: Method, model: BayesianModel, examples: Examples) -> None:
    """Checks that the inputs and the largest layer of a batch fit the memory.

    Raises:
        RunError: they do not.
    """
    train = examples.num_train if method.whole_data else config.training.batch_size
    held_out = min(config.evaluation.batch_size, len(examples.held_out[0]))
    for name, count in (("training", train), ("evaluation", held_out)):
        needed = largest_layer(model, examples.train[0], count)
        cure = f"lower {name}.batch_size, or make the network smaller (model)"
        _refuse(needed, f"one layer of the network for {count} examples", cure)


def check_padding(config: Config, examples: Examples) -> None:
    """Checks that a batch of images with their padding fits the memory.

    Raises:
        RunError: it does not.
    """
    if isinstance(examples, Images) and examples.padding:
        height, width, channels = examples.train[0].shape[1:]
        sides = (height + 2 * examples.padding) * (width + 2 * examples.padding)
        count = config.training.batch_size
        needed = 4.0 * count * sides * channels
        _refuse(needed, f"a batch of {count} images with data.padding", "lower data.padding")


def check_steps(epochs: int, steps_per_epoch: int) -> None:
    """Checks that the steps of a run can be counted.

    Raises:
        RunError: they are more than `MAX_STEPS`.
    """
    if epochs * steps_per_epoch > MAX_STEPS:
        raise RunError(
            f"{epochs} epochs of {steps_per_epoch} steps are more than {MAX_STEPS} steps: lower "
            "training.epochs, or raise training.batch_size."
        )


def shapes_of(init: Callable[..., PyTree], example: PyTree) -> PyTree:
    """Returns the shapes of the variables that init(key, example) returns."""
    # A trace of this generator does not grow with the number of weights.
    return jax.eval_shape(init, jax.random.key(0, impl="unsafe_rbg"), example)


def size_of(tree: PyTree) -> float:
    """Returns the bytes of all arrays of a tree, or of their shapes."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def largest_layer(model: BayesianModel, inputs: PyTree, count: int) -> float:
    """Returns the bytes of the largest output of a product or convolution for so many examples."""
    abstract = jax.ShapeDtypeStruct((count, *inputs.shape[1:]), inputs.dtype)
    weights = jax.eval_shape(model.mean, model.posterior)
    traced = jax.make_jaxpr(model.network.call)(weights, model.variables, abstract)
    return max(_outputs(traced.jaxpr), default=0.0)


def _outputs(jaxpr: Any) -> list[float]:
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in _LAYERS:
            found += [_bytes(output.aval) for output in equation.outvars]
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += _outputs(inner)
    return found


def _bytes(array: Any) -> float:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return 0.0
    return float(np.prod(np.asarray(array.shape, np.float64))) * array.dtype.itemsize


def _count(params: PyTree) -> str:
    return f"{sum(float(np.prod(np.asarray(p.shape, float))) for p in jax.tree.leaves(params)):.3g}"


def _copies(method: Method, config: Config) -> float:
    """Returns how many times the weights are in the state of a method, at least."""
    random = 1 if config.posterior.where == "all" else 0  # else some weights may not be
    chain = max(config.training.epochs - getattr(method, "warmup", 0), 1)
    if isinstance(method, Ensemble):
        return method.size * _copies(method.method, config)
    with_adam = 3 if config.optimizer is None or config.optimizer.name != "sgd" else 1
    copies: Mapping[str, float] = {
        "bayes_by_backprop": (1 + random) * with_adam,
        "ivon": 1 + 2 * random,
        "map": 3,
        "laplace": 3,
        "mc_dropout": 3,
        "swag": 3 + random * (getattr(method, "rank", 0) + 1),
        "sgld": 1 + getattr(method, "num_samples", 0),
        "sghmc": 1 + getattr(method, "num_samples", 0),
        "hmc": 1 + random * chain * getattr(method, "chains", 1),
        "nuts": 1 + random * chain * getattr(method, "chains", 1),
    }
    return copies.get(method.name, 1)


def _refuse(needed: float, what: str, cure: str) -> None:
    most = _device_limit()
    shortage = memory.shortage(needed, most)
    if shortage is not None:
        raise RunError(f"The run does not fit the memory: {what} needs {shortage}: {cure}.")


def _device_limit() -> float | None:
    """Returns the bytes of all accelerators; None on CPU, where they are the machine's."""
    statistics = [device.memory_stats() for device in jax.local_devices()]
    limits = [s["bytes_limit"] for s in statistics if s and "bytes_limit" in s]
    total = float(sum(limits)) * jax.process_count()  # the processes have the same devices
    return total if len(limits) == len(statistics) else None
