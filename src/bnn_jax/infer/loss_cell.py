"""A stochastic network combined with its loss: cell(key, x, label)."""

from flax import nnx
from jaxtyping import Array, Float

from bnn_jax.dpn import ConditionalVAE
from bnn_jax.infer.elbo import ELBO
from bnn_jax.noise import PRNGKey


class WithLossCell(nnx.Module):
    """Computes loss_fn(backbone(key, x), label).

    A `ConditionalVAE` is called as backbone(key, x, label). For a network with a different
    signature, subclass this and override `__call__`.

    Args:
        backbone: an NNX module, such as a `VAE`.
        loss_fn: an `ELBO`, or a subclass of it.

    Raises:
        TypeError: backbone is not an nnx.Module, or loss_fn is not an ELBO.
    """

    def __init__(self, backbone: nnx.Module, loss_fn: ELBO) -> None:
        if not isinstance(backbone, nnx.Module):
            raise TypeError(f"WithLossCell needs an nnx.Module as backbone, got {backbone!r}.")
        if not isinstance(loss_fn, ELBO):
            raise TypeError(
                f"WithLossCell needs an infer.ELBO (or a subclass) as loss_fn, got {loss_fn!r}."
            )
        self.backbone = backbone
        self.loss_fn = loss_fn

    def __call__(self, key: PRNGKey, x: Array, label: Array | None) -> Float[Array, ""]:
        """Returns the loss of one batch, summed over its examples."""
        if isinstance(self.backbone, ConditionalVAE):
            if label is None:
                raise ValueError("A ConditionalVAE needs labels: pass batches (x, label).")
            return self.loss_fn(self.backbone(key, x, label), label)
        return self.loss_fn(self.backbone(key, x), label)

    @property
    def backbone_network(self) -> nnx.Module:
        """The backbone, under MindSpore's name."""
        return self.backbone
