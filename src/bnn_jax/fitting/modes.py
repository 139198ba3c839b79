"""Training and evaluation mode of a network, for dropout and batch normalisation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import PyTree

from bnn_jax.devices import Placement
from bnn_jax.noise import Draw
from bnn_jax.train import Forward
from bnn_jax.transforms import BayesianModel


@dataclasses.dataclass(frozen=True)
class Modes:
    """One model in both modes.

    Attributes:
        training, evaluation: the model in each mode.
        train_kwargs, eval_kwargs: the network's keyword arguments in each mode.
    """

    training: BayesianModel
    evaluation: BayesianModel
    train_kwargs: Mapping[str, Any]
    eval_kwargs: Mapping[str, Any]

    @property
    def forward(self) -> Forward:
        """The network in training mode, as a step takes it."""
        return self.training.forward(
            streams=self.training.network.streams(), **dict(self.train_kwargs)
        )

    def forward_on(self, placement: Placement | None) -> Forward:
        """The network in training mode, for a posterior whose arrays may be divided over a mesh."""
        forward = self.forward
        if placement is None or not placement.shard_parameters:
            return forward

        def gathering(
            draw: Draw, posterior: PyTree, variables: PyTree, inputs: PyTree
        ) -> tuple[PyTree, PyTree]:
            return forward(draw, placement.gathered(posterior), variables, inputs)

        return gathering

    @property
    def noiseless_forward(self) -> Forward:
        """The network in evaluation mode, as a step takes it."""
        return self.evaluation.forward(**dict(self.eval_kwargs))


def modes_of(
    model: BayesianModel,
    train_kwargs: Mapping[str, Any] | None = None,
    eval_kwargs: Mapping[str, Any] | None = None,
) -> Modes:
    """Returns a model in both modes.

    Args:
        model: what `to_bnn` returned.
        train_kwargs: keyword arguments of a call in training mode, beside those that
            `network.in_mode` finds.
        eval_kwargs: those of a call in evaluation mode.
    """
    training, train = model.network.in_mode(train=True)
    evaluation, evaluate = model.network.in_mode(train=False)
    return Modes(
        dataclasses.replace(model, network=training),
        dataclasses.replace(model, network=evaluation),
        {**train, **(train_kwargs or {})},
        {**evaluate, **(eval_kwargs or {})},
    )


def has_batch_statistics(model: BayesianModel, variables: PyTree) -> bool:
    """Returns whether the network keeps running averages of its batches."""
    return bool(model.network.batch_statistics(variables))
