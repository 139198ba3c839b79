"""A trained network with a second head, which says how noisy the targets are.

    model = aleatoric_head(key, network, inputs=(x,))
    outputs, log_variance = model.apply(model.params, x)

The head is a dense layer, as in MindSpore. It reads what the network's last dense layer reads, as
that layer's twin; this is the article's network with two outputs. (MindSpore does so in regression
only. In classification its head reads the logits, which need not say where labels are noisy.)

Source: Kendall, Gal 2017, arXiv:1703.04977, section 3.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float, PyTree

from bnn_jax import noise
from bnn_jax.networks import layer_calls
from bnn_jax.networks.network import Network
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.train import Forward

Outputs = Float[Array, "batch outputs"]
Reads = Literal["features", "outputs"]

DENSE = (linen.Dense, nnx.Linear)
# Of the weights of a dense layer of MindSpore, at the start.
KERNEL_STD = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class AleatoricModel:
    """What `aleatoric_head` returns: a network that predicts its noise.

    Attributes:
        params: {"network": the network's, "head": {"kernel": ..., "bias": ...}}.
        layer: path of the dense layer whose input the head reads; None: it reads the outputs.
        base: the network.
    """

    params: PyTree
    layer: str | None
    base: Network

    def apply(self, params: PyTree, *inputs: Any) -> tuple[Outputs, Outputs]:
        """The network's outputs, and for each the log of the variance of its noise."""
        outputs, features = outputs_and_features(self.base, self.layer, params["network"], inputs)
        head = params["head"]
        return outputs, features @ head["kernel"] + head["bias"][None]

    def scaled(self, inputs: tuple[Any, ...], targets: Float[Array, "batch outputs"]) -> PyTree:
        """The params with a bias at which the variances are the network's mean squared errors.

        From zero the log variance would take thousands of steps to the scale of the targets.
        """
        outputs, _ = self.apply(self.params, *inputs)
        mean_square = jnp.mean(jnp.square(targets.astype(outputs.dtype) - outputs), axis=0)
        bias = jnp.log(jnp.maximum(mean_square, jnp.finfo(outputs.dtype).tiny))
        return self.params | {"head": self.params["head"] | {"bias": bias}}

    def forward(self, *, num_draws: int) -> Forward:
        """The network as `train.build_step` takes it.

        Its outputs are (outputs, log_variance, draws) with standard normal draws (num_draws, batch,
        outputs), as the losses of `aleatoric_loss` need them.
        """

        def forward(
            draw: PRNGKey | Draw, posterior: PyTree, variables: PyTree, inputs: Any
        ) -> tuple[Any, PyTree]:
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            outputs, log_variance = self.apply(posterior, *arguments)
            key = noise.unpaired(draw, "The noise of an aleatoric loss")
            draws = noise.normal(key, (num_draws, *outputs.shape), outputs.dtype)
            return (outputs, log_variance, draws), variables

        return forward


def aleatoric_head(
    key: PRNGKey, network: Network, *, inputs: tuple[Any, ...], reads: Reads = "features"
) -> AleatoricModel:
    """The network with a new head, whose variances are about one.

    Args:
        key: draws the head's kernel, N(0, 0.01^2); its bias is zero.
        network: with outputs (batch, outputs). In evaluation mode, as a linen module is unless told
            otherwise; an NNX module is put into it.
        inputs: example inputs, a tuple; they tell the layers and the shapes. Nothing is computed.
        reads: "features", the input of the dense layer that gives the outputs; where there are
            several, of the one called last. Or "outputs".

    Raises:
        ValueError: no such dense layer, an unknown name.
    """
    if reads not in ("features", "outputs"):
        raise ValueError(f"The head reads 'features' or 'outputs', got {reads!r}.")
    layer = _last_dense(network, inputs) if reads == "features" else None
    outputs, features = jax.eval_shape(
        lambda: outputs_and_features(network, layer, network.params, inputs)
    )
    shape, dtype = (features.shape[-1], outputs.shape[-1]), outputs.dtype
    kernel = jnp.asarray(KERNEL_STD, dtype) * noise.normal(key, shape, dtype)
    head = {"kernel": kernel, "bias": jnp.zeros(shape[1:], dtype)}
    return AleatoricModel({"network": network.params, "head": head}, layer, network)


def outputs_and_features(
    network: Network, layer: str | None, params: PyTree, inputs: tuple[Any, ...]
) -> tuple[Array, Array]:
    """The network's outputs, and what this layer reads; without a layer, the outputs twice."""
    seen: list[Array] = []

    def look(path: str, module: Any, run: Callable[[], Any], data: tuple[Any, ...]) -> Any:
        seen.append(data[0])
        return run()

    paths = () if layer is None else (layer,)
    outputs = layer_calls.call(network, paths, look, params, network.variables, inputs)
    return outputs, seen[-1] if seen else outputs


def _last_dense(network: Network, inputs: tuple[Any, ...]) -> str:
    types = network.layer_types(*inputs)
    dense = [path for path, kind in types.items() if path and issubclass(kind, DENSE)]
    last = layer_calls.last_called(network, dense, inputs)
    if not last:
        shown = ", ".join(f"{path} ({kind.__name__})" for path, kind in types.items() if path)
        raise ValueError(
            "The aleatoric head reads what the last dense layer (linen.Dense, nnx.Linear) reads, "
            f"and the network has none: let it read 'outputs'. Its layers are: {shown or 'none'}."
        )
    return last[-1]
