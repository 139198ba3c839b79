"""The contents of a report as arrays: for any network, a classifier, a regression."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from bnn_jax.experiment.folder import Record
from bnn_jax.predictive.posterior_predictive import Classification, Regression
from bnn_jax.report.dependence import ClassDependence, Dependence


@dataclasses.dataclass(frozen=True)
class Weights:
    """A random weight array, flat: mean and standard deviation of each element."""

    mean: Float[np.ndarray, " n"]
    std: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """The contents of the report of any run.

    Attributes:
        run: name of the run folder.
        data: name of the data set.
        evaluated_on: the kind of the held-out examples, "test" or "validation".
        num_samples: number of weight samples of the predictive.
        settings: the resolved config, as plain values.
        weights: {path: random weight array}.
        epochs: the lines of metrics.jsonl.
        summary: summary.json.
    """

    run: str
    data: str
    evaluated_on: str
    num_samples: int
    settings: Record
    weights: Mapping[str, Weights]
    epochs: Sequence[Record]
    summary: Record


@dataclasses.dataclass(frozen=True)
class Group:
    """Examples, and the predictions of the network for them.

    Attributes:
        name: their name in the report.
        images: the inputs; images are uint8 (n, h, w, c), before padding.
        labels: class numbers; None if the images belong to no class of the network.
        label_names: the name of the true class of each image.
        predictive: the posterior predictive.
        at_mean: the prediction by the weights at the posterior mean.
        baseline: the prediction by the deterministic baseline, if there is one.
        tempered, baseline_tempered: the predictions from logits divided by
            evaluation.ood_temperature, if it is not 1 and there are images of other data sets.
        changes: how the images were changed to fit the network, in words.
    """

    name: str
    images: Shaped[np.ndarray, "n ..."]
    labels: Int[np.ndarray, " n"] | None
    label_names: Sequence[str]
    predictive: Classification
    at_mean: Classification
    baseline: Classification | None = None
    tempered: Classification | None = None
    baseline_tempered: Classification | None = None
    changes: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_images(self) -> bool:
        """Whether the inputs can be shown as images."""
        return self.images.dtype == np.uint8 and self.images.ndim == 4


@dataclasses.dataclass(frozen=True)
class Rotation:
    """One image at each angle (degrees, counterclockwise), and the predictive for it."""

    angles: Float[np.ndarray, " angles"]
    images: UInt8[np.ndarray, "angles h w c"]
    predictive: Classification
    label_name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierFindings(Findings):
    """The contents of the report of a classifier.

    Attributes:
        held_out: examples that it was not trained on.
        others: images of other data sets.
        class_names: one per class.
        rotation: None if no image of the rotated class is classified correctly.
        ood_temperature: the temperature of the tempered scores; 1 if there are none.
        dependences: on the most important inputs of a table.
    """

    held_out: Group
    others: Sequence[Group]
    class_names: Sequence[str]
    rotation: Rotation | None
    ood_temperature: float = 1.0
    dependences: Sequence[ClassDependence] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressionFindings(Findings):
    """The contents of the report of a regression of one number.

    Attributes:
        targets: of the held-out examples.
        predictive: for these examples, with the quantiles at `intervals.LEVELS`.
        at_mean: the prediction by the weights at the posterior mean.
        train_targets: of the training examples.
        train_inputs: of the training examples, if there is one input.
        line: inputs to draw the function at, and the predictive there, if there is one input.
        true_mean: the mean of the targets at these inputs, if it is known.
        dependences: on the most important inputs of a table, if there are several inputs.
        input_name, target_name: name and unit.
    """

    targets: Float[np.ndarray, " n"]
    predictive: Regression
    at_mean: Regression
    train_targets: Float[np.ndarray, " train"]
    train_inputs: Float[np.ndarray, " train"] | None = None
    line: tuple[Float[np.ndarray, " points"], Regression] | None = None
    true_mean: Float[np.ndarray, " points"] | None = None
    dependences: Sequence[Dependence] = ()
    input_name: str = "input"
    target_name: str = "target"
