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

Dense = Callable[[int, int], nn.Module]
# (input channels, output channels, kernel size, stride, padding) -> a convolution without bias.
Conv = Callable[[int, int, int, int, int], nn.Module]


@dataclass(frozen=True)
class Workload:
    """A network of `bnn_jax.benchmark.workloads`, built from the layers of a library.

    Attributes:
        batch: examples per training step.
        shape: the shape of one example.
        network: (dense layer, convolution) -> the network.
    """

    batch: int
    shape: tuple[int, ...]
    network: Callable[[Dense, Conv], nn.Module]


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


def mlp(*widths: int) -> Callable[[Dense, Conv], nn.Sequential]:
    """Dense layers with relu between them."""

    def network(dense: Dense, conv: Conv) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [dense(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return network


def lenet5(dense: Dense, conv: Conv) -> nn.Sequential:
    """LeNet-5 as in bnn_jax.models.networks."""
    return nn.Sequential(
        *(conv(1, 6, 5, 1, 0), nn.ReLU(), nn.MaxPool2d(2)),
        *(conv(6, 16, 5, 1, 0), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(dense(400, 120), nn.ReLU(), dense(120, 84), nn.ReLU(), dense(84, 10)),
    )


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalization, and a shortcut."""

    def __init__(self, conv: Conv, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *(conv(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()),
            *(conv(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                conv(inputs, outputs, 1, stride, 0), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.residual(x) + self.shortcut(x))


def resnet20(dense: Dense, conv: Conv) -> nn.Sequential:
    """ResNet-20 as in bnn_jax.models.resnet."""
    layers: list[nn.Module] = [conv(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range(3):
            layers.append(Block(conv, inputs, outputs, stride=outputs // inputs))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense(64, 10))


WORKLOADS = {
    "W1": Workload(128, (784,), mlp(784, 400, 400, 10)),
    "W2": Workload(128, (784,), mlp(784, 1200, 1200, 10)),
    "W3": Workload(64, (1, 32, 32), lenet5),
    "W4": Workload(64, (3, 32, 32), resnet20),
}


def plain(workload: Workload) -> nn.Module:
    """A network of PyTorch's own layers."""
    return workload.network(
        nn.Linear, lambda i, o, size, stride, pad: nn.Conv2d(i, o, size, stride, pad, bias=False)
    )


def with_torchbnn(workload: Workload) -> nn.Module:
    """Torchbnn with the prior of its README, which is also the initial posterior std."""
    return workload.network(
        lambda i, o: torchbnn.BayesLinear(0, 0.1, i, o),
        lambda i, o, size, stride, pad: torchbnn.BayesConv2d(
            0, 0.1, i, o, size, stride, pad, bias=False
        ),
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
        lambda i, o, size, stride, pad: BayesianConv2d(
            i, o, (size, size), stride=stride, padding=pad, bias=False, prior_dist=prior
        ),
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
