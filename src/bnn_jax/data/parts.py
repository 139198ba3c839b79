"""Parts of a data set from pairs of arrays: the checks that `npz` files and Python files share."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import PyTree, Shaped

from bnn_jax.data.dataset import Dataset, Kind, Splits, Task
from bnn_jax.data.errors import DataError, Place
from bnn_jax.data.inputs import encode_inputs
from bnn_jax.data.targets import TargetEncoder

PARTS = ("train", "validation", "test")
AnyShape = Shaped[np.ndarray, "..."]
Pair = tuple[AnyShape, AnyShape]
Places = tuple[Place, Place]


def splits_of(
    pairs: Mapping[str, Pair],
    places: Mapping[str, Places],
    *,
    source: str,
    task: Task | None = None,
    kind: Kind | None = None,
    class_names: Sequence[str] | None = None,
) -> Splits:
    """Returns the parts of a data set from arrays.

    Args:
        pairs: {part: (inputs, targets)}, with "train" among the parts.
        places: {part: (place of the inputs, place of the targets)}, for messages.
        source: the name of the file.
        task: what the targets are; None finds it from their type.
        kind: what the inputs are; None finds it from their type and shape.
        class_names: a name for each class.

    Raises:
        DataError: arrays of different lengths, of a wrong type, or with a wrong value; or parts
            that differ in shape.
    """
    targets = pairs["train"][1]
    _check_length(pairs["train"], places["train"])
    encoder = TargetEncoder.fit(targets, places["train"][1], task=task, class_names=class_names)
    found: dict[str, Dataset] = {}
    for part, pair in pairs.items():
        found[part] = _dataset(pair, places[part], encoder, kind)
    train = found["train"]
    for part, data in found.items():
        if data.inputs.shape[1:] != train.inputs.shape[1:] or data.kind != train.kind:
            raise DataError(
                f"{places[part][0]} has examples of shape {data.inputs.shape[1:]} ({data.kind}), "
                f"and those of the training part have {train.inputs.shape[1:]} ({train.kind}): "
                "they must agree."
            )
    return Splits(train, found.get("validation"), found.get("test"), source=source)


def _dataset(pair: Pair, places: Places, encoder: TargetEncoder, kind: Kind | None) -> Dataset:
    _check_length(pair, places)
    inputs, kind = encode_inputs(pair[0], places[0], kind=kind)
    targets = encoder.encode(pair[1], places[1])
    names = ("y",) if encoder.columns == 1 else tuple(f"y{i}" for i in range(encoder.columns))
    return Dataset(
        inputs, targets, encoder.task, kind, target_names=names, class_names=encoder.class_names
    )


def _check_length(pair: Pair, places: Places) -> None:
    shapes: list[PyTree] = [array.shape for array in pair]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) > 1 or 0 in lengths:
        raise DataError(
            f"{places[0]} and {places[1].part} must have the same number of examples on axis 0, at "
            f"least 1, got shapes {shapes[0]} and {shapes[1]}."
        )
