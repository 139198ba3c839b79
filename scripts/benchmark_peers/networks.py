"""The networks and libraries that are compared with bnn_jax: plain PyTorch and three peers."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchbnn
from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn, get_kl_loss
from blitz.losses import kl_divergence_from_nn
from blitz.modules import BayesianConv2d, BayesianLinear
from torch import Tensor, nn
from torch.nn import functional

NUM_DATA = 60_000
SAMPLES, EXAMPLES = 32, 1000

Layer = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Workload:
    """A network of `bnn_jax.benchmark.workloads`, built from the layers of a library.

    Attributes:
        batch: examples per training step.
        shape: the shape of one example.
        network: (dense layer, 5x5 convolution without bias) -> the network.
    """

    batch: int
    shape: tuple[int, ...]
    network: Callable[[Layer, Layer], nn.Sequential]


@dataclass(frozen=True)
class Peer:
    """A library.

    Attributes:
        package: its name on PyPI.
        network: workload -> its network, Bayesian except for plain PyTorch.
        kl: network -> its KL, after a forward pass; None if it is not Bayesian.
    """

    package: str
    network: Callable[[Workload], nn.Module]
    kl: Callable[[nn.Module], Tensor] | None


def mlp(*widths: int) -> Callable[[Layer, Layer], nn.Sequential]:
    """Dense layers with relu between them."""

    def network(dense: Layer, conv: Layer) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [dense(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return network


def lenet5(dense: Layer, conv: Layer) -> nn.Sequential:
    """LeNet-5 as in bnn_jax.models.networks."""
    return nn.Sequential(
        *(conv(1, 6), nn.ReLU(), nn.MaxPool2d(2)),
        *(conv(6, 16), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(dense(400, 120), nn.ReLU(), dense(120, 84), nn.ReLU(), dense(84, 10)),
    )


WORKLOADS = {
    "W1": Workload(128, (784,), mlp(784, 400, 400, 10)),
    "W2": Workload(128, (784,), mlp(784, 1200, 1200, 10)),
    "W3": Workload(64, (1, 32, 32), lenet5),
}


def plain(workload: Workload) -> nn.Module:
    """A network of PyTorch's own layers."""
    return workload.network(nn.Linear, lambda i, o: nn.Conv2d(i, o, 5, bias=False))


def with_torchbnn(workload: Workload) -> nn.Module:
    """Torchbnn with the prior of its README, which is also the initial posterior std."""
    return workload.network(
        lambda i, o: torchbnn.BayesLinear(0, 0.1, i, o),
        lambda i, o: torchbnn.BayesConv2d(0, 0.1, i, o, 5, bias=False),
    )


def with_bayesian_torch(workload: Workload) -> nn.Module:
    """The plain network, converted by bayesian-torch with the parameters of its README."""
    network = plain(workload)
    options = {
        "prior_mu": 0.0,
        "prior_sigma": 1.0,
        "posterior_mu_init": 0.0,
        "posterior_rho_init": -3.0,
        "type": "Reparameterization",
        "moped_enable": False,
    }
    dnn_to_bnn(network, options)
    return network


def with_blitz(workload: Workload) -> nn.Module:
    """Blitz with a standard normal prior."""
    prior = torch.distributions.Normal(0.0, 1.0)
    return workload.network(
        lambda i, o: BayesianLinear(i, o, prior_dist=prior),
        lambda i, o: BayesianConv2d(i, o, (5, 5), bias=False, prior_dist=prior),
    )


PEERS = {
    "plain torch": Peer("torch", plain, None),
    "torchbnn": Peer("torchbnn", with_torchbnn, torchbnn.BKLLoss(reduction="sum")),
    "bayesian-torch": Peer("bayesian-torch", with_bayesian_torch, get_kl_loss),
    "blitz": Peer("blitz-bayesian-pytorch", with_blitz, kl_divergence_from_nn),
}


def train_step(workload: Workload, peer: Peer, fused_adam: bool) -> Callable[[], Tensor]:
    """Returns a function that takes one step and returns the loss."""
    network = peer.network(workload).train()
    inputs = torch.randn(workload.batch, *workload.shape)
    labels = torch.randint(10, (workload.batch,))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused_adam or None)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(inputs), labels)
        if peer.kl is not None:
            loss = loss + peer.kl(network) / NUM_DATA
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def prediction(workload: Workload, peer: Peer) -> Callable[[], Tensor]:
    """Returns a function that returns the mean probabilities (examples, 10)."""
    network = peer.network(workload).eval()
    inputs = torch.randn(EXAMPLES, *workload.shape)

    @torch.no_grad()
    def predict() -> Tensor:
        total = torch.zeros(EXAMPLES, 10)
        for _ in range(SAMPLES):
            total += functional.softmax(network(inputs), dim=-1)
        return total / SAMPLES

    return predict
