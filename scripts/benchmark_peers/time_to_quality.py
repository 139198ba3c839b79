"""Times the training of a Bayesian LeNet-5 on MNIST until the test NLL is at most 0.048.

    .venv-peers/bin/python scripts/benchmark_peers/time_to_quality.py torchbnn --mnist FOLDER
    .venv-peers/bin/python scripts/benchmark_peers/time_to_quality.py bayesian-torch --mnist FOLDER
    .venv/bin/python scripts/benchmark_peers/time_to_quality.py bnn_jax --mnist FOLDER

FOLDER has MNIST's four original files. After every epoch, the NLL of the 10,000 test images is
computed with 10 weight samples, while the clock is stopped. The clock includes compilation, and
excludes imports and reading the data. All libraries draw the weights once for a batch.

The settings of the other libraries are those that they publish, with the batch size 64:
bayesian-torch's example for MNIST (Adadelta at 1.0 for 6 epochs, then at 0.1, a new one in each
epoch, KL / 60,000; the example draws the weights 5 times for a batch), and torchbnn's demo of a
classification (Adam at 0.01, 0.1 times the mean KL of a weight). `--adam` replaces the optimizer by
Adam at another learning rate. bnn_jax has the settings of configs/lenet5_mnist.yaml. The KL terms
differ, so the NLL compares predictions, not objectives.
"""

import argparse
import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]
# Yields (seconds of training so far, test NLL) after every epoch.
Training = Callable[[int, Arrays, Arrays], Iterator[tuple[float, float]]]

TARGET = 0.048
SAMPLES = 10
MAX_EPOCHS = 40


def mnist(folder: Path, part: str) -> Arrays:
    """Returns images (n, 32, 32), standardized and padded, and labels of "train" or "t10k"."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2))) / 255.0
    scaled = ((padded - 0.1307) / 0.3081).astype(np.float32)
    return scaled, np.frombuffer(labels, np.uint8, offset=8).astype(np.int32)


def with_torch(library: str, adam: float | None) -> Training:
    """Training by torchbnn or bayesian-torch."""
    import torch
    import torchbnn
    from bayesian_torch.models.dnn_to_bnn import get_kl_loss
    from torch.nn import functional

    from networks import NUM_DATA, PEERS, WORKLOADS

    def optimizer_of(network: torch.nn.Module) -> Callable[[int], torch.optim.Optimizer]:
        """Returns the optimizer of each epoch."""
        if adam is not None or library == "torchbnn":
            shared = torch.optim.Adam(network.parameters(), lr=adam or 0.01)
            return lambda epoch: shared
        return lambda epoch: torch.optim.Adadelta(
            network.parameters(), lr=1.0 if epoch < 6 else 0.1
        )

    def kl_of(network: torch.nn.Module) -> torch.Tensor:
        """Returns the KL term of the loss."""
        if library == "torchbnn":
            return 0.1 * torchbnn.BKLLoss(reduction="mean")(network)
        return get_kl_loss(network) / NUM_DATA

    def train(seed: int, data: Arrays, test: Arrays) -> Iterator[tuple[float, float]]:
        torch.manual_seed(seed)
        network = PEERS[library].network(WORKLOADS["W3"])
        optimizers, batch_size = optimizer_of(network), 64
        images, test_images = (torch.from_numpy(x[:, None].copy()) for x, _ in (data, test))
        labels, test_labels = (torch.from_numpy(y).long() for _, y in (data, test))
        seconds = 0.0
        for epoch in itertools.count():
            started = time.perf_counter()
            optimizer = optimizers(epoch)
            order = torch.randperm(len(images))
            for batch in order[: len(order) // batch_size * batch_size].view(-1, batch_size):
                optimizer.zero_grad()
                loss = functional.cross_entropy(network(images[batch]), labels[batch])
                (loss + kl_of(network)).backward()
                optimizer.step()
            seconds += time.perf_counter() - started
            with torch.no_grad():
                draws = [functional.softmax(network(test_images), -1) for _ in range(SAMPLES)]
            probabilities = torch.stack(draws).mean(0)
            yield seconds, float(functional.nll_loss(probabilities.log(), test_labels))

    return train


def with_bnn_jax(seed: int, data: Arrays, test: Arrays) -> Iterator[tuple[float, float]]:
    """Training by bnn_jax; stops after the epoch in which the target is reached."""
    import jax
    import jax.numpy as jnp

    from bnn_jax import NormalPrior, fit, infer, likelihoods, to_bnn
    from bnn_jax.models import LeNet5, banded_conv

    network = LeNet5(conv_general_dilated=banded_conv)
    key = jax.random.key(seed)
    results = []
    seconds, started = 0.0, time.perf_counter()

    def after_epoch(numbers: dict[str, Any], result: Any) -> bool:
        nonlocal seconds, started
        jax.block_until_ready(result.posterior)
        seconds += time.perf_counter() - started
        scores = result.evaluate(test[0][..., None], test[1], SAMPLES)
        results.append((seconds, float(scores["nll"])))
        started = time.perf_counter()
        return bool(scores["nll"] <= TARGET)

    model = to_bnn(
        network,
        network.init(jax.random.fold_in(key, 1), jnp.zeros((1, 32, 32, 1))),
        estimator={"fc*": "flipout", "*": "reparam"},
        prior=NormalPrior(0.0, 1.0),
        initial_std=0.0486,
    )
    fit(
        key,
        model,
        (data[0][..., None], data[1]),
        method=infer.bayes_by_backprop(learning_rate=2e-3, kl_warmup=0.7, kl_every=10),
        likelihood=likelihoods.Categorical(),
        epochs=MAX_EPOCHS,
        callbacks=[after_epoch],
        progress=False,
    )
    yield from results


def main() -> None:
    """Trains with each seed and prints a JSON line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    libraries = ("bnn_jax", "torchbnn", "bayesian-torch")
    parser.add_argument("library", choices=libraries)
    parser.add_argument("--mnist", type=Path, required=True, help="a folder with MNIST's files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--adam", type=float, help="learning rate of Adam for the other libraries")
    args = parser.parse_args()
    data, test = mnist(args.mnist, "train"), mnist(args.mnist, "t10k")
    is_ours = args.library == "bnn_jax"
    training = with_bnn_jax if is_ours else with_torch(args.library, args.adam)
    for seed in args.seeds:
        results = []
        for seconds, nll in itertools.islice(training(seed, data, test), MAX_EPOCHS):
            results.append((seconds, nll))
            if nll <= TARGET:
                break
        row = {
            "library": args.library,
            "adam": args.adam,
            "seed": seed,
            "reached": results[-1][1] <= TARGET,
            "epochs": len(results),
            "seconds": round(results[-1][0], 2),
            "nll": [round(nll, 4) for _, nll in results],
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
