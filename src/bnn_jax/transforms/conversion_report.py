"""A table of the weights of a converted network: random or not, estimator, prior."""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, PyTree
from rich.console import Console
from rich.table import Table

from bnn_jax import gaussian, priors
from bnn_jax.gaussian import is_gaussian
from bnn_jax.priors import Prior


@dataclasses.dataclass(frozen=True)
class Weight:
    """One row: a leaf of the params tree.

    Attributes:
        path: the path of the leaf, such as conv1/kernel.
        layer_type: the type of its layer, or None if it is unknown.
        shape, dtype, size: those of the weight; size is the number of elements.
        random: whether the weight is a random variable.
        estimator: the estimator that was chosen for the weight; None if it is not random.
        applied: the rules that a forward pass applied to the weight. None without example inputs;
            empty if the output does not depend on the weight.
        prior: the prior of the weight; None if it is not random.
    """

    path: str
    layer_type: type | None
    shape: tuple[int, ...]
    dtype: np.dtype
    size: int
    random: bool
    estimator: str | None
    applied: tuple[str, ...] | None
    prior: Prior | None


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """A table of all weights of a converted network. It can be printed; `weights` has the rows."""

    weights: Sequence[Weight]

    @property
    def num_weights(self) -> int:
        return sum(w.size for w in self.weights)

    @property
    def num_random_weights(self) -> int:
        return sum(w.size for w in self.weights if w.random)

    def __str__(self) -> str:
        table = Table(show_footer=True)
        total, random = self.num_weights, self.num_random_weights
        table.add_column("path", "total", no_wrap=True)
        table.add_column("layer", no_wrap=True)
        table.add_column("shape", no_wrap=True)
        table.add_column("weights", f"{total:,}", justify="right")
        table.add_column("random", f"{random:,}", justify="right")
        table.add_column("estimator", no_wrap=True)
        table.add_column("prior", no_wrap=True)
        for w in self.weights:
            table.add_row(
                w.path,
                "" if w.layer_type is None else w.layer_type.__name__,
                f"{w.dtype}{list(w.shape)}",
                f"{w.size:,}",
                "yes" if w.random else "",
                _estimator(w),
                "" if w.prior is None else describe(w.prior),
            )
        text = io.StringIO()
        Console(file=text, width=1000).print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def report(
    posterior: PyTree,
    prior: Prior | PyTree,
    estimators: Mapping[str, str],
    layer_types: Mapping[str, type],
    applied: Mapping[str, Sequence[str]] | None,
) -> ConversionReport:
    """Returns the report of a posterior tree; the arguments are those of `BayesianModel`."""
    own = {} if isinstance(prior, Prior) else priors.prior_leaves(prior)
    leaves = jax.tree_util.tree_leaves_with_path(posterior, is_leaf=is_gaussian)
    rows = []
    for tree_path, leaf in leaves:
        path = gaussian.path_name(tree_path)
        random = is_gaussian(leaf)
        rows.append(
            Weight(
                path=path,
                layer_type=layer_types.get(path.rpartition("/")[0]),
                shape=tuple(leaf.shape),
                dtype=leaf.dtype,
                size=leaf.size,
                random=random,
                estimator=estimators[path] if random else None,
                applied=tuple(applied[path]) if random and applied is not None else None,
                prior=(prior if isinstance(prior, Prior) else own[path]) if random else None,
            )
        )
    return ConversionReport(rows)


def describe(prior: Prior) -> str:
    """Returns a short description of a prior, such as NormalPrior(mean=0, std=0.1)."""
    names = [field.name for field in dataclasses.fields(prior)]  # type: ignore[arg-type]
    fields = ", ".join(f"{name}={_number(getattr(prior, name))}" for name in names)
    return f"{type(prior).__name__}({fields})"


def _number(value: float | Array | np.ndarray) -> str:
    if isinstance(value, Array | np.ndarray) and value.ndim:
        return f"array{list(value.shape)}"
    return f"{float(value):g}"


def _estimator(w: Weight) -> str:
    """Returns the chosen estimator, and the rules that replaced it, if any."""
    if not w.random:
        return ""
    if w.applied is None or set(w.applied) == {w.estimator}:
        return str(w.estimator)
    if not w.applied:
        return f"{w.estimator}: not used"
    return f"{w.estimator} -> {', '.join(dict.fromkeys(w.applied))}"
