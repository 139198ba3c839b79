"""A trained network with a second head that predicts the noise of the targets.

    model = aleatoric_head(key, network, inputs=(x,))
    outputs, log_variance = model.apply(model.params, x)

The head is a dense layer, as in MindSpore. Its input is that of the network's last dense layer,
which makes it the paper's network with two outputs. (MindSpore does so in regression only. In
classification its head reads the logits, which need not indicate where labels are noisy.)

Source: Kendall, Gal 2017, arXiv:1703.04977, section 3.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, ArrayLike, Float, PyTree

from bnn_jax import noise
from bnn_jax.networks import layer_calls
from bnn_jax.networks.network import Network
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.train import Forward

Outputs = Float[Array, "batch outputs"]
Reads = Literal["features", "outputs"]

DENSE = (linen.Dense, nnx.Linear)
# The std of the initial weights of a dense layer in MindSpore.
KERNEL_STD = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class AleatoricModel:
    """A network that predicts the noise of the targets; returned by `aleatoric_head`.

    Attributes:
        params: {"network": params of the network, "head": {"kernel": ..., "bias": ...}}.
        layer: path of the dense layer whose input the head reads; None if it reads the outputs.
        base: the network.
    """

    params: PyTree
    layer: str | None
    base: Network

    def apply(self, params: PyTree, *inputs: ArrayLike) -> tuple[Outputs, Outputs]:
        """Returns the network's outputs, and the log variance of the noise of each."""
        outputs, features = outputs_and_features(self.base, self.layer, params["network"], inputs)
        head = params["head"]
        return outputs, features @ head["kernel"] + head["bias"][None]

    def scaled(
        self, inputs: tuple[ArrayLike, ...], targets: Float[Array, "batch outputs"]
    ) -> PyTree:
        """Returns the params with a bias at which the variances are the mean squared errors.

        From zero, the log variance would need thousands of steps to reach the scale of the targets.
        """
        outputs, _ = self.apply(self.params, *inputs)
        mean_square = jnp.mean(jnp.square(targets.astype(outputs.dtype) - outputs), axis=0)
        bias = jnp.log(jnp.maximum(mean_square, jnp.finfo(outputs.dtype).tiny))
        return self.params | {"head": self.params["head"] | {"bias": bias}}

    def forward(self, *, num_draws: int) -> Forward:
        """Returns the network in the form that `train.build_step` takes.

        Its outputs are (outputs, log_variance, draws), with standard normal draws of shape
        (num_draws, batch, outputs) for the losses of `aleatoric_loss`.
        """

        def forward(
            draw: PRNGKey | Draw, posterior: PyTree, variables: PyTree, inputs: PyTree
        ) -> tuple[tuple[Array, Array, Array], PyTree]:
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            outputs, log_variance = self.apply(posterior, *arguments)
            key = noise.unpaired(draw, "The noise of an aleatoric loss")
            draws = noise.normal(key, (num_draws, *outputs.shape), outputs.dtype)
            return (outputs, log_variance, draws), variables

        return forward


def aleatoric_head(
    key: PRNGKey, network: Network, *, inputs: tuple[ArrayLike, ...], reads: Reads = "features"
) -> AleatoricModel:
    """Returns the network with a new head, whose initial variances are about one.

    Args:
        key: draws the head's kernel from N(0, 0.01^2); its bias is zero.
        network: a network with outputs (batch, outputs). It runs in evaluation mode: the default of
            a linen module; an NNX module is switched to it.
        inputs: a tuple of example inputs, traced for layers and shapes; nothing is computed.
        reads: the input of the head: "features", the input of the dense layer that is called last,
            or "outputs".

    Raises:
        ValueError: an unknown name, or a network without a dense layer.
    """
    if reads not in ("features", "outputs"):
        raise ValueError(f"reads must be 'features' or 'outputs', got {reads!r}.")
    layer = _last_dense(network, inputs) if reads == "features" else None
    outputs, features = jax.eval_shape(
        lambda: outputs_and_features(network, layer, network.params, inputs)
    )
    shape, dtype = (features.shape[-1], outputs.shape[-1]), outputs.dtype
    kernel = jnp.asarray(KERNEL_STD, dtype) * noise.normal(key, shape, dtype)
    head = {"kernel": kernel, "bias": jnp.zeros(shape[1:], dtype)}
    return AleatoricModel({"network": network.params, "head": head}, layer, network)


def outputs_and_features(
    network: Network, layer: str | None, params: PyTree, inputs: tuple[ArrayLike, ...]
) -> tuple[Array, Array]:
    """Returns the network's outputs and the input of this layer, or the outputs if it is None."""
    seen: list[Array] = []

    def record(
        path: str, module: object, run: Callable[[], PyTree], data: tuple[Array, ...]
    ) -> PyTree:
        seen.append(data[0])
        return run()

    paths = () if layer is None else (layer,)
    outputs = layer_calls.call(network, paths, record, params, network.variables, inputs)
    return outputs, seen[-1] if seen else outputs


def _last_dense(network: Network, inputs: tuple[ArrayLike, ...]) -> str:
    types = network.layer_types(*inputs)
    dense = [path for path, kind in types.items() if path and issubclass(kind, DENSE)]
    last = layer_calls.last_called(network, dense, inputs)
    if not last:
        shown = ", ".join(f"{path} ({kind.__name__})" for path, kind in types.items() if path)
        raise ValueError(
            "The aleatoric head reads the input of the last dense layer (linen.Dense, nnx.Linear), "
            f"and the network has none: pass 'outputs' instead. Its layers are: {shown or 'none'}."
        )
    return last[-1]
