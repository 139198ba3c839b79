"""How fast are other libraries of Bayesian networks, on this machine's CPU, beside bnn_jax?

PyTorch and JAX need not share an environment, so the peers get one of their own:

    python3 -m venv .venv-peers
    .venv-peers/bin/pip install -r scripts/benchmark_peers/requirements.txt
    .venv-peers/bin/python scripts/benchmark_peers/benchmark_peers.py W1 W3 --output peers.jsonl

This process times plain PyTorch, torchbnn, bayesian-torch and blitz. bnn_jax runs in a child
process with the repository's .venv (`--bnn-jax-python` names another), which waits while this one
computes. All take turns, round after round, and a ratio compares times of the same round. Timed are

- train: one step of Adam on one batch in memory. The loss is cross entropy + KL / 60,000, with one
  draw of the weights for the batch; plain PyTorch has the cross entropy alone;
- predict: the mean softmax over 32 draws of the weights, for 1,000 examples, without gradients;
  plain PyTorch does as many passes of the one network.

In each turn a process first waits a little, until the threads of the other have gone to sleep. A
turn of training is a loop of 25 steps, of which the last 20 are timed, for in training a step
follows a step.

What to know when reading the numbers:

- Run it on an idle machine. Where other programs take turns on the CPUs, PyTorch's threads spin
  while they wait for each other, and all its libraries appear several times slower than they are.
  `--threads 1` keeps both processes to one CPU and one thread, and is far less sensitive to that.
- Every library is used as its own documentation shows, eagerly and in float32; bayesian-torch by
  its `dnn_to_bnn` and `get_kl_loss`. Adam is PyTorch's default; `--fused-adam` takes the fused one.
- bayesian-torch's KL is a mean over each array of weights where the ELBO has a sum. That changes
  the loss and, by next to nothing, the time.
- blitz's KL is that of the weights drawn, log q(w) - log p(w). It is computed in every forward
  pass, in prediction too. Its prior here is one Gaussian, like the others', not its mixture.
- bnn_jax has the gradient of the KL in every step, but computes the KL's value, which only the
  reported loss needs, in every tenth. With `--kl-every 1` it has the value in every step, as the
  peers do.
- "bnn_jax, pairs" is a prediction with antithetic pairs of weight samples, which the peers do not
  have. Ratios are to "bnn_jax", whose samples are independent, like theirs.
- bnn_jax's prediction also includes its measures of uncertainty; the peers compute none.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torchbnn
from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn, get_kl_loss
from blitz.losses import kl_divergence_from_nn
from blitz.modules import BayesianConv2d, BayesianLinear
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parents[1]
KINDS = ("train", "predict")
# What bnn_jax does for each kind: the label, and what its process is asked for.
OURS = {
    "train": {"bnn_jax": "train"},
    "predict": {"bnn_jax": "predict", "bnn_jax, pairs": "predict in pairs"},
}
NUM_DATA = 60_000
SAMPLES, EXAMPLES = 32, 1000
WARMUP = 2  # rounds before those that count
UNTIMED_STEPS, TIMED_STEPS = 5, 20  # of a turn of training
PAUSE = 0.05  # seconds; OpenMP's threads spin for some milliseconds before they sleep

# glibc gives large buffers back to the system at once, and every step pays for their pages again.
# scripts/_environment has it keep them; here both processes do, to the advantage of neither.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "2147483648", "MALLOC_TRIM_THRESHOLD_": "2147483648"}

Layer = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Workload:
    """A network of `bnn_jax.benchmark.workloads`, by the layers of some library.

    Attributes:
        batch: examples a training step.
        shape: of one example.
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
        network: the workload's network, Bayesian if the library is.
        kl: of a network after its forward pass; None if it is not Bayesian.
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
    """Of PyTorch's own layers."""
    return workload.network(nn.Linear, lambda i, o: nn.Conv2d(i, o, 5, bias=False))


def with_torchbnn(workload: Workload) -> nn.Module:
    """With the prior of its README; its posterior starts at the prior's width."""
    return workload.network(
        lambda i, o: torchbnn.BayesLinear(0, 0.1, i, o),
        lambda i, o: torchbnn.BayesConv2d(0, 0.1, i, o, 5, bias=False),
    )


def with_bayesian_torch(workload: Workload) -> nn.Module:
    """The plain network, converted with the parameters of its README."""
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
    """With a standard normal prior."""
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
    """A function that takes one step and returns the loss."""
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
    """A function that returns the mean probabilities (examples, 10)."""
    network = peer.network(workload).eval()
    inputs = torch.randn(EXAMPLES, *workload.shape)

    @torch.no_grad()
    def predict() -> Tensor:
        total = torch.zeros(EXAMPLES, 10)
        for _ in range(SAMPLES):
            total += functional.softmax(network(inputs), dim=-1)
        return total / SAMPLES

    return predict


class BnnJax:
    """The child process that runs one case of bnn_jax; a context manager, so it always ends."""

    def __init__(self, python: Path, workload: str, kind: str, kl_every: int) -> None:
        self._process = subprocess.Popen(
            [python, FOLDER / "child.py", workload, kind, "--kl-every", str(kl_every)],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "BnnJax":
        """Wait until the case is compiled."""
        self.versions: dict[str, str] = json.loads(self._line())
        return self

    def __exit__(self, *error: object) -> None:
        """End the process."""
        self._process.communicate()

    def seconds(self, runs: int) -> float:
        """Run the case so many times in a row."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{runs}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("error: bnn_jax's process has stopped; its message is above")
        return line


def seconds_of(name: str, call: Callable[[], Tensor], runs: int) -> float:
    """Make so many calls in a row; the result has to be finite."""
    started = time.perf_counter()
    for _ in range(runs):
        result = call()
    seconds = time.perf_counter() - started
    if not torch.isfinite(result).all():
        sys.exit(f"error: {name}: the result is not finite")
    return seconds


def in_turns(
    timers: dict[str, Callable[[int], float]], rounds: int, kind: str
) -> dict[str, list[float]]:
    """Seconds of one run of each in successive rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    untimed, runs = (UNTIMED_STEPS, TIMED_STEPS) if kind == "train" else (0, 1)
    for turn in range(WARMUP + rounds):
        for name, timer in timers.items():
            time.sleep(PAUSE)
            if untimed:
                timer(untimed)
            measured = timer(runs) / runs
            if turn >= WARMUP:
                seconds[name].append(measured)
    return seconds


def results(
    names: Sequence[str], rounds: int, python: Path, kl_every: int, fused_adam: bool
) -> Iterator[dict[str, Any]]:
    """Time the workloads one after the other; yields a result for each library."""
    for name in names:
        for kind in KINDS:
            with ExitStack() as children:
                timers: dict[str, Callable[[int], float]] = {}
                for label, child_kind in OURS[kind].items():
                    child = children.enter_context(BnnJax(python, name, child_kind, kl_every))
                    versions = dict(child.versions)
                    timers[label] = child.seconds
                for label, peer in PEERS.items():
                    versions[peer.package] = version(peer.package)
                    if kind == "train":
                        call = train_step(WORKLOADS[name], peer, fused_adam)
                    else:
                        call = prediction(WORKLOADS[name], peer)
                    timers[label] = partial(seconds_of, label, call)
                times = in_turns(timers, rounds, kind)
            for label, seconds in times.items():
                ratios = [a / b for a, b in zip(seconds, times["bnn_jax"], strict=True)]
                median, ratio = 1e3 * statistics.median(seconds), statistics.median(ratios)
                yield {
                    "workload": name,
                    "kind": kind,
                    "library": label,
                    "median_ms": median,
                    "ratio_to_bnn_jax": ratio,
                    "rounds": rounds,
                    "kl_every": kl_every,
                    "fused_adam": fused_adam,
                    "threads": torch.get_num_threads(),
                    "cpu": cpu_name(),
                    "versions": versions,
                }


def cpu_name() -> str:
    """The CPU's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def use_threads(count: int) -> None:
    """Keep this process, and the child it will start, to so many CPUs and threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    torch.set_num_threads(count)


def keep_memory() -> None:
    """Start this process again with MALLOC, unless it has it: glibc reads it only at the start."""
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ.update(MALLOC)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> None:
    """Read the options, time, print a table."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds (default 20)")
    parser.add_argument("--output", type=Path, help="a file to which JSON lines are added")
    parser.add_argument(
        "--bnn-jax-python",
        type=Path,
        default=REPOSITORY / ".venv/bin/python",
        help="the Python that has bnn_jax (default: that of the repository's .venv)",
    )
    parser.add_argument(
        "--kl-every",
        type=int,
        default=10,
        help="bnn_jax's steps from one value of the KL to the next (default 10, as in "
        "scripts/benchmark; the peers compute it in every step)",
    )
    parser.add_argument("--fused-adam", action="store_true", help="PyTorch's fused form of Adam")
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="CPUs and threads, for both processes (default: all; fewer needs Linux)",
    )
    args = parser.parse_args()
    if unknown := [name for name in args.workloads if name not in WORKLOADS]:
        parser.error(f"unknown workload {unknown[0]}: they are {', '.join(WORKLOADS)}")
    if min(args.rounds, args.kl_every, args.threads) < 1:
        parser.error("--rounds, --kl-every and --threads have to be >= 1")
    if args.threads < (os.cpu_count() or 1) and not hasattr(os, "sched_setaffinity"):
        parser.error("--threads below the number of CPUs needs Linux, to hold for bnn_jax too")
    if not args.bnn_jax_python.exists():
        parser.error(f"there is no {args.bnn_jax_python}: give --bnn-jax-python")

    use_threads(args.threads)
    torch.manual_seed(0)
    print(
        f"{cpu_name()}, {torch.get_num_threads()} threads, {args.rounds} rounds, "
        f"kl_every={args.kl_every}{', fused Adam' if args.fused_adam else ''}"
    )
    print(f"{'workload':<9} {'kind':<8} {'library':<15} {'ms':>10} {'ms / bnn_jax':>13}")
    for result in results(
        args.workloads or list(WORKLOADS),
        args.rounds,
        args.bnn_jax_python,
        args.kl_every,
        args.fused_adam,
    ):
        print(
            f"{result['workload']:<9} {result['kind']:<8} {result['library']:<15} "
            f"{result['median_ms']:>10.2f} {result['ratio_to_bnn_jax']:>13.2f}",
            flush=True,
        )
        if args.output is not None:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            with args.output.open("a") as file:
                file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
