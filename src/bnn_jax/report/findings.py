"""What a report shows, as arrays: of every network, of a classifier, of a regression."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from bnn_jax.predictive.posterior_predictive import Classification, Regression


@dataclasses.dataclass(frozen=True)
class Weights:
    """A random weight array, flat: mean and standard deviation of each element."""

    mean: Float[np.ndarray, " n"]
    std: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """What there is to tell of every run.

    Attributes:
        run: name of the run folder.
        data: name of the data set.
        evaluated_on: "test" or "validation": what the held-out examples are.
        num_samples: weight samples behind the predictive.
        settings: the resolved config, as plain values.
        weights: each random weight array under its path.
        epochs: the lines of metrics.jsonl.
        summary: summary.json.
    """

    run: str
    data: str
    evaluated_on: str
    num_samples: int
    settings: Mapping[str, Any]
    weights: Mapping[str, Weights]
    epochs: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """Images, and what the network says of them.

    Attributes:
        name: what the report calls them.
        images: uint8, before padding.
        labels: class numbers; None where the images belong to no class of the network.
        label_names: what they show, one for each image.
        predictive: of the posterior predictive.
        at_mean: of the weights at the posterior mean.
        baseline: of the deterministic baseline, if there is one.
        tempered, baseline_tempered: of logits divided by evaluation.ood_temperature, where it is
            not 1 and there are images of other data sets.
        changes: what was done to the images to fit the network, in words.
    """

    name: str
    images: UInt8[np.ndarray, "n h w c"]
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


@dataclasses.dataclass(frozen=True)
class Rotation:
    """One image at each angle (degrees, counter-clockwise), and the predictive there."""

    angles: Float[np.ndarray, " angles"]
    images: UInt8[np.ndarray, "angles h w c"]
    predictive: Classification
    label_name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierFindings(Findings):
    """What there is to tell of a classifier of images.

    Attributes:
        held_out: examples that it was not trained on.
        others: images of other data sets.
        class_names: one per class.
        rotation: None where no image of the rotated class is recognised.
        ood_temperature: of the tempered scores; 1 where there are none.
    """

    held_out: Group
    others: Sequence[Group]
    class_names: Sequence[str]
    rotation: Rotation | None
    ood_temperature: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressionFindings(Findings):
    """What there is to tell of a regression of one number.

    Attributes:
        targets: of the held-out examples.
        predictive: of these examples, with the quantiles of `intervals.LEVELS`.
        at_mean: of the weights at the posterior mean.
        train_targets: of the training examples.
        train_inputs: of the training examples, if there is one input.
        line: places to draw the function at, and the predictive there, if there is one input.
        true_mean: of the targets at these places, where it is known.
        input_name, target_name: name and unit.
    """

    targets: Float[np.ndarray, " n"]
    predictive: Regression
    at_mean: Regression
    train_targets: Float[np.ndarray, " train"]
    train_inputs: Float[np.ndarray, " train"] | None = None
    line: tuple[Float[np.ndarray, " points"], Regression] | None = None
    true_mean: Float[np.ndarray, " points"] | None = None
    input_name: str = "input"
    target_name: str = "target"
