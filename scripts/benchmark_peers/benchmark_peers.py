"""Times other libraries for Bayesian neural networks on the CPU, relative to bnn_jax.

The peers have their own environment, because PyTorch and JAX need not share one:

    python3 -m venv .venv-peers
    .venv-peers/bin/pip install -r scripts/benchmark_peers/requirements.txt
    .venv-peers/bin/python scripts/benchmark_peers/benchmark_peers.py W1 W3 --output peers.jsonl

This process times plain PyTorch, torchbnn, bayesian-torch and blitz. bnn_jax runs in a child
process with the repository's .venv (or `--bnn-jax-python`), which waits while this one computes.
The libraries take turns in every round, and a ratio compares times of the same round. The cases:

- train: one step of Adam on one batch in memory. The loss is cross entropy + KL / 60,000, with one
  draw of the weights for the batch; plain PyTorch has the cross entropy alone;
- predict: the mean softmax over 32 draws of the weights, for 1,000 examples, without gradients;
  plain PyTorch does as many passes of the one network.

Each turn starts with a short pause, until the threads of the other process sleep. A turn of
training is a loop of 25 steps, and the last 20 are timed.

Notes on the numbers:

- Run it on an idle machine. If other programs use the CPUs, PyTorch's threads spin while they wait
  for each other, and its libraries appear several times slower than they are. `--threads 1` limits
  both processes to one CPU and one thread, and is far less sensitive to other load.
- Every library is used as in its own documentation, eagerly and in float32; bayesian-torch with its
  `dnn_to_bnn` and `get_kl_loss`. Adam is PyTorch's default; `--fused-adam` uses the fused one.
- bayesian-torch's KL is a mean over each array of weights instead of the sum in the ELBO. This
  changes the loss but hardly the time.
- blitz's KL is log q(w) - log p(w) at the sampled weights. It is computed in every forward pass,
  also in prediction. Its prior here is one Gaussian, as for the others, not its mixture.
- bnn_jax computes the gradient of the KL in every step, but the value of the KL, which only the
  reported loss needs, in every tenth step. With `--kl-every 1` it computes the value in every step,
  as the peers do.
- "bnn_jax, pairs" is a prediction with antithetic pairs of weight samples, which the peers do not
  have. Ratios are relative to "bnn_jax", whose samples are independent, as for the peers.
- bnn_jax's prediction also computes its measures of uncertainty; the peers compute none.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from timing import KINDS, Result, cpu_name, results

from networks import WORKLOADS

REPOSITORY = Path(__file__).resolve().parents[2]

# glibc returns large buffers to the system at once, and every step pays for their pages again.
# scripts/_environment makes it keep them; here it is set for both processes.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "2147483648", "MALLOC_TRIM_THRESHOLD_": "2147483648"}


def use_threads(count: int) -> None:
    """Limits this process and its child to this number of CPUs and threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    torch.set_num_threads(count)


def keep_memory() -> None:
    """Restarts this process with MALLOC if it is not set: glibc reads it only at the start."""
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ.update(MALLOC)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def options() -> argparse.Namespace:
    """Reads and checks the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)}")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="default: both")
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds (default 20)")
    parser.add_argument("--output", type=Path, help="a file to which JSON lines are appended")
    parser.add_argument(
        "--bnn-jax-python",
        type=Path,
        default=REPOSITORY / ".venv/bin/python",
        help="the Python of bnn_jax (default: that of the repository's .venv)",
    )
    parser.add_argument(
        "--kl-every",
        type=int,
        default=10,
        help="bnn_jax's steps between values of the KL (default 10, as in "
        "scripts/benchmark; the peers compute it in every step)",
    )
    parser.add_argument("--fused-adam", action="store_true", help="PyTorch's fused form of Adam")
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="CPUs and threads of both processes (default: all; fewer needs Linux)",
    )
    args = parser.parse_args()
    if unknown := [name for name in args.workloads if name not in WORKLOADS]:
        parser.error(f"unknown workload {unknown[0]}: choose from {', '.join(WORKLOADS)}")
    if min(args.rounds, args.kl_every, args.threads) < 1:
        parser.error("--rounds, --kl-every and --threads must be at least 1")
    if args.threads < (os.cpu_count() or 1) and not hasattr(os, "sched_setaffinity"):
        parser.error("--threads below the number of CPUs needs Linux")
    if not args.bnn_jax_python.exists():
        parser.error(f"{args.bnn_jax_python} does not exist: set --bnn-jax-python")
    return args


def append(result: Result, path: Path) -> None:
    """Appends a result to a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(result) + "\n")


def main() -> None:
    """Times the workloads and prints a table."""
    keep_memory()
    args = options()
    use_threads(args.threads)
    torch.manual_seed(0)
    print(
        f"{cpu_name()}, {torch.get_num_threads()} threads, {args.rounds} rounds, "
        f"kl_every={args.kl_every}{', fused Adam' if args.fused_adam else ''}"
    )
    print(f"{'workload':<9} {'kind':<8} {'library':<15} {'ms':>10} {'ms / bnn_jax':>13}")
    for result in results(
        args.workloads or list(WORKLOADS),
        args.kinds,
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
            append(result, args.output)


if __name__ == "__main__":
    main()
