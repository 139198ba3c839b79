"""The inputs of a run on a table."""

from bnn_jax.experiment.commands import Run
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.report.dependence import Column


def columns_of(run: Run) -> list[Column]:
    """Returns the inputs of a run on several features; none for other inputs."""
    examples = run.examples
    if not isinstance(examples, Arrays) or examples.kind != "features":
        return []
    inputs = examples.train[0]
    if inputs.ndim != 2 or inputs.shape[1] == 1:
        return []
    if examples.splits.encoder is None:
        names = examples.splits.train.input_names
        names = names or tuple(f"input {i}" for i in range(inputs.shape[1]))
        return [Column(name, (i,)) for i, name in enumerate(names)]
    found: list[Column] = []
    first = 0
    for column in examples.splits.encoder.inputs:
        last = first + len(column.features)
        found.append(Column(column.name, tuple(range(first, last)), column.categories))
        first = last
    return found
