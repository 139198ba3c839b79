"""MindSpore's `UncertaintyEvaluation`: epistemic and aleatoric uncertainty of a trained network.

    evaluation = UncertaintyEvaluation(net, batches, "classification", num_classes=10)
    evaluation.eval_epistemic_uncertainty(x)  # (N, 10): uncertainty of the weights
    evaluation.eval_aleatoric_uncertainty(x)  # (N,): noise of the data

The epistemic uncertainty is the variance over draws of dropout masks; the aleatoric uncertainty is
the variance predicted by a second head. Each trains a copy of the network in its first call.

Sources: Gal, Ghahramani 2016, arXiv:1506.02142; Kendall, Gal 2017, arXiv:1703.04977.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from jaxtyping import Array, ArrayLike, Float, PyTree

from bnn_jax.infer.mc_dropout import MCDropout, Where, mc_dropout
from bnn_jax.likelihoods import Categorical
from bnn_jax.networks import layer_calls
from bnn_jax.networks.network import as_network
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive.posterior_predictive import predict
from bnn_jax.toolbox import _evaluation_arguments as arguments
from bnn_jax.toolbox import _further_training, aleatoric_loss
from bnn_jax.toolbox.aleatoric_head import AleatoricModel, Reads, aleatoric_head
from bnn_jax.train import Forward

PerExample = Float[np.ndarray, "examples"]

# MindSpore's numbers of passes in the epistemic evaluation and of draws in the aleatoric loss.
NUM_PASSES = 10
NUM_DRAWS = 10


class UncertaintyEvaluation:
    """Epistemic and aleatoric uncertainty of a trained network.

    The network is not modified. Each of two models starts from its weights and is trained for
    `epochs` in evaluation mode (batch statistics are not updated):

    - epistemic: dropout after every layer except the last; cross entropy or squared error. A
      network with dropout layers was trained with them and is used without further training.
    - aleatoric: a second head; the losses of `aleatoric_loss`.

    Args:
        model: the trained network, a linen module or an NNX module; its outputs are logits (batch,
            classes), or numbers (batch, outputs).
        train_dataset: batches (inputs, targets), as a list or another finite iterable that can be
            read repeatedly. Targets are labels (batch,), or numbers (batch, outputs).
        task_type: "classification" or "regression".
        num_classes: number of classes; required for classification.
        epochs: number of passes over train_dataset for each model.
        epi_uncer_model_path: folder of the epistemic model. With save_model it is saved there;
            otherwise it is read from there instead of being trained.
        ale_uncer_model_path: the same for the aleatoric model.
        save_model: save both after training. Requires both paths, which must not exist yet.
        variables: for linen, the variables with "params".
        dropout_rate: rate of the added dropout. (MindSpore has 0.5, after one layer.)
        where: layers that dropout is added to, see `mc_dropout`.
        head_reads: input of the aleatoric head, see `aleatoric_head`.
        optimizer: optimizer of both models; by default MindSpore's, Adam with learning rate 1e-3.
        seed: seed of all noise; the same seed gives the same results.

    Attributes:
        epi_uncer_model, ale_uncer_model: the trained models, None before their first use.

    Raises:
        TypeError, ValueError: invalid arguments, or targets that do not fit the network's outputs.
    """

    def __init__(
        self,
        model: linen.Module | nnx.Module,
        train_dataset: Iterable[tuple[PyTree, ArrayLike]],
        task_type: Literal["regression", "classification"],
        num_classes: int | None = None,
        epochs: int = 1,
        epi_uncer_model_path: str | Path | None = None,
        ale_uncer_model_path: str | Path | None = None,
        save_model: bool = False,
        *,
        variables: PyTree = None,
        dropout_rate: float = 0.1,
        where: Where = "auto",
        head_reads: Reads = "features",
        optimizer: optax.GradientTransformation | None = None,
        seed: int = 0,
    ) -> None:
        arguments.check_settings(task_type, num_classes, epochs, save_model)
        epi_path = arguments.check_path("epi_uncer_model_path", epi_uncer_model_path, save_model)
        ale_path = arguments.check_path("ale_uncer_model_path", ale_uncer_model_path, save_model)
        if save_model and epi_path == ale_path:
            raise ValueError(f"The two models need different folders, got {epi_path} for both.")
        if not isinstance(model, linen.Module | nnx.Module):
            raise TypeError(
                "UncertaintyEvaluation takes a linen module with variables=, or an NNX module; got "
                f"{type(model).__name__}."
            )
        self.train_dataset = train_dataset
        self.task_type = task_type
        self.num_classes = num_classes
        self.epochs = epochs
        self.epi_uncer_model_path = epi_path
        self.ale_uncer_model_path = ale_path
        self.save_model = save_model
        self.optimizer = optax.adam(1e-3) if optimizer is None else optimizer
        self.epi_uncer_model: MCDropout | None = None
        self.ale_uncer_model: AleatoricModel | None = None

        network = as_network(model, variables)
        inputs, targets = arguments.first_batch(train_dataset)
        outputs = jax.eval_shape(lambda: layer_calls.evaluate(network, inputs))
        arguments.check_targets(task_type, num_classes, outputs, targets)
        self._key = jax.random.key(seed)
        # Both models are built here, so that invalid arguments raise before any training.
        self._with_dropout = mc_dropout(
            model, variables, inputs=inputs, rate=dropout_rate, where=where
        )
        self._with_head = aleatoric_head(
            jax.random.fold_in(self._key, 0), network, inputs=inputs, reads=head_reads
        )

    def eval_epistemic_uncertainty(
        self,
        eval_data: PyTree,
        *,
        num_samples: int = NUM_PASSES,
        of: Literal["probabilities", "logits"] = "probabilities",
        normalize: bool = False,
        batch_size: int = 1000,
    ) -> Float[np.ndarray, "examples outputs"]:
        """Returns the variance of each probability or output over passes with dropout.

        Args:
            eval_data: inputs (examples, ...), or a tuple of the network's arguments.
            num_samples: number of passes.
            of: for classification, the quantity whose variance is returned; MindSpore's is
                "logits".
            normalize: shift and scale the whole array to [0, 1], as MindSpore does. A value then
                depends on the other examples.
            batch_size: examples per compiled call.

        Returns:
            Variances with divisor num_samples: of probabilities, at most 0.25, or in the squared
            unit of the outputs.
        """
        if of not in ("probabilities", "logits"):
            raise ValueError(f"of must be 'probabilities' or 'logits', got {of!r}.")
        if self.epi_uncer_model is None:
            self.epi_uncer_model = self._epistemic_model()
        softmax = self.task_type == "classification" and of == "probabilities"
        prediction = predict(
            jax.random.fold_in(self._key, 1),
            self.epi_uncer_model,
            eval_data,
            num_samples=num_samples,
            likelihood=jax.nn.softmax if softmax else _outputs,
            batch_size=batch_size,
        )
        return _normalized(prediction.epistemic_variance, normalize)

    def eval_aleatoric_uncertainty(
        self, eval_data: PyTree, *, normalize: bool = False, batch_size: int = 1000
    ) -> PerExample:
        """Returns the learned variance of the noise, summed over the outputs.

        In regression this is the noise of the targets, in their squared unit; for one output, its
        square root is the std. In classification it is the noise of the logits.

        Args:
            eval_data, normalize, batch_size: see `eval_epistemic_uncertainty`.
        """
        if self.ale_uncer_model is None:
            self.ale_uncer_model = self._aleatoric_model()
        prediction = predict(
            jax.random.fold_in(self._key, 2),
            self.ale_uncer_model.apply,
            eval_data,
            posterior=self.ale_uncer_model.params,
            likelihood=_summed_variance,
            batch_size=batch_size,
        )
        return _normalized(prediction.mean, normalize)

    def _epistemic_model(self) -> MCDropout:
        model = self._with_dropout
        if not model.added:
            return model
        params = self._trained(
            self.epi_uncer_model_path,
            model.forward(),
            model.params,
            Categorical().nll if self.task_type == "classification" else _squared_error,
            jax.random.fold_in(self._key, 3),
        )
        return dataclasses.replace(model, params=params)

    def _aleatoric_model(self) -> AleatoricModel:
        model = self._with_head
        start = model.params
        loss_fn: Callable[..., Array] = _noisy_cross_entropy
        if self.task_type == "regression":
            inputs, targets = arguments.first_batch(self.train_dataset)
            start, loss_fn = model.scaled(inputs, jnp.asarray(targets)), _gaussian_nll
        params = self._trained(
            self.ale_uncer_model_path,
            model.forward(num_draws=NUM_DRAWS),
            start,
            loss_fn,
            jax.random.fold_in(self._key, 4),
        )
        return dataclasses.replace(model, params=params)

    def _trained(
        self,
        path: Path | None,
        forward: Forward,
        params: PyTree,
        loss_fn: Callable[..., Array],
        key: PRNGKey,
    ) -> PyTree:
        """Returns the params after training, or the saved params."""
        if path is not None and not self.save_model:
            return _further_training.read(path, params)
        trained = _further_training.train_further(
            key, forward, params, loss_fn, self.optimizer, self.train_dataset, epochs=self.epochs
        )
        if path is not None:
            _further_training.save(path, trained)
        return trained


def _squared_error(outputs: Array, targets: Array) -> Float[Array, ""]:
    return jnp.mean(jnp.square(targets.astype(outputs.dtype) - outputs))


def _noisy_cross_entropy(outputs: tuple[Array, Array, Array], labels: Array) -> Float[Array, ""]:
    logits, log_variance, draws = outputs
    return aleatoric_loss.classification(logits, jnp.exp(0.5 * log_variance), labels, draws)


def _gaussian_nll(outputs: tuple[Array, Array, Array], targets: Array) -> Float[Array, ""]:
    mean, log_variance, _ = outputs
    return aleatoric_loss.regression(mean, log_variance, targets)


def _outputs(outputs: Array) -> Array:
    return outputs


def _summed_variance(outputs: tuple[Array, Array]) -> Array:
    _, log_variance = outputs
    return jnp.sum(jnp.exp(log_variance), axis=-1)


def _normalized(values: np.ndarray, normalize: bool) -> np.ndarray:
    if not normalize:
        return values
    area = values.max() - values.min()
    return (values - values.min()) / area if area > 0 else np.zeros_like(values)
