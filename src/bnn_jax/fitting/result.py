"""What `fit` returns: a posterior with its history, which predicts, evaluates and can be saved."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import ArrayLike, PyTree

from bnn_jax import infer, likelihoods
from bnn_jax.devices.processes import whole
from bnn_jax.fitting import shapes
from bnn_jax.fitting.checkpoint import Folder
from bnn_jax.fitting.diagnosis import Finding
from bnn_jax.fitting.evaluation import LEVELS, scores
from bnn_jax.fitting.modes import modes_of
from bnn_jax.fitting.standardize import Affine, Standardizer
from bnn_jax.infer.method import Inference, Method
from bnn_jax.infer.problem import Problem
from bnn_jax.likelihoods import Likelihood
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import Posterior, size
from bnn_jax.predictive import Classification, Regression, predict
from bnn_jax.transforms import BayesianModel

# Weight samples of a prediction from a posterior that has infinitely many.
NUM_SAMPLES = 32


@dataclasses.dataclass
class Fit:
    """A posterior that was inferred from data.

    Attributes:
        posterior: the posterior over the params.
        history: the mean numbers of each epoch, with validation scores.
        diagnosis: what is wrong with the fit, each with its cause and what to change; empty for a
            healthy fit.
        model: the network in evaluation mode, with its prior.
        method: the inference method.
        likelihood: the distribution of targets given the network's outputs.
        scaling: the standardisation of inputs and targets.
        num_data, num_steps: the numbers of training examples and of steps.
        eval_kwargs: the network's keyword arguments in evaluation mode.
        key: default key of predictions.
        inputs: the shapes and dtypes of a batch's inputs.
        mesh: the devices that the fit used, which predictions use too; None for one device.
    """

    posterior: Posterior
    history: list[dict[str, Any]]
    diagnosis: Sequence[Finding]
    model: BayesianModel
    method: Method
    likelihood: Likelihood
    scaling: Standardizer
    num_data: int
    num_steps: int
    eval_kwargs: Mapping[str, Any]
    key: PRNGKey
    inputs: PyTree = None
    mesh: Mesh | None = None

    def predict(
        self,
        x: PyTree,
        num_samples: int | None = None,
        *,
        key: PRNGKey | None = None,
        targets: ArrayLike | None = None,
        **options: object,
    ) -> PyTree:
        """Returns the posterior predictive of each example, as `bnn_jax.predict` does.

        Args:
            x: inputs as given to `fit`, in their own units.
            num_samples: weight samples; by default all draws of a posterior that has finitely
                many, and 32 of others. A posterior of one network is predicted with once. None with
                method="moments".
            key: gives the noise of the weight samples; by default the fit's own.
            targets: asks for their log probability; in their own units.
            options: those of `bnn_jax.predict`, such as levels=(0.05, 0.95). The mesh is by
                default that of the fit.
        """
        own = size(self.posterior)
        # One network has one prediction.
        count: int | None = 1 if own == 1 else num_samples or own or NUM_SAMPLES
        if options.get("method") == "moments":  # draws nothing
            count = num_samples
        predicted: Classification | Regression = predict(
            self.key if key is None else key,
            self.model,
            self.scaling.of_inputs(x),
            count,
            likelihood=self.likelihood,
            posterior=self.posterior,
            targets=None
            if targets is None
            else self.scaling.of_targets(np.asarray(whole(targets))),
            **{"mesh": self.mesh, **self.eval_kwargs, **options},
        )
        return self.scaling.undo(predicted)

    def evaluate(
        self, x: PyTree, y: ArrayLike, num_samples: int | None = None, **options: Any
    ) -> dict[str, float]:
        """Returns scores of the predictive on held-out examples.

        Classes: accuracy, nll (nats), ece, brier. Numbers: nll and log_likelihood (nats) and rmse
        in the targets' units, coverage and mean width of the 90 % interval.

        Args:
            x, y: held-out inputs and targets, in their own units.
            num_samples, options: those of `predict`.
        """
        y = whole(y)
        if isinstance(self.likelihood, likelihoods.Regression):
            options = {"levels": LEVELS, **options}
        return scores(self.predict(x, num_samples, targets=y, **options), y)

    def save(self, folder: str | Path) -> None:
        """Writes the posterior, the history and the settings to a folder.

        An earlier fit in the folder is replaced when the new one is complete.
        """
        record = {
            "method": to_json(self.method),
            "likelihood": to_json(self.likelihood),
            "scaling": {
                name: None if a is None else [a.shift.tolist(), a.scale.tolist()]
                for name, a in vars(self.scaling).items()
            },
            "num_data": self.num_data,
            "num_steps": self.num_steps,
            "eval_kwargs": dict(self.eval_kwargs),
            "key": np.asarray(_key_data(self.key)).tolist(),
            "inputs": shapes.to_json(self.inputs),
            "history": self.history,
            "diagnosis": [dataclasses.asdict(finding) for finding in self.diagnosis],
        }
        _saved_in(folder).save(self.num_steps, self.posterior, record)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        model: BayesianModel,
        *,
        method: Method | None = None,
        likelihood: Likelihood | None = None,
    ) -> "Fit":
        """Returns the fit that `save` wrote.

        Args:
            folder: the folder.
            model: what `to_bnn` returns for the same network, prior and choice of weights; its
                weights do not matter.
            method, likelihood: those of the fit, if they hold more than numbers and names (a
                custom optimizer, a class of your own).

        Raises:
            ValueError: the folder holds no fit, or a file of it is damaged.
        """
        source = _saved_in(folder)
        saved = source.newest_record()
        if saved is None:
            raise ValueError(f"{folder} holds no fit: it must be a folder that Fit.save wrote.")
        method = method or _method_from_json(saved["method"])
        likelihood = likelihood or _likelihood_from_json(saved["likelihood"])
        modes = modes_of(model, eval_kwargs=saved["eval_kwargs"])
        inputs = shapes.from_json(saved.get("inputs"))
        problem = Problem(
            model,
            modes.forward,
            likelihood,
            saved["num_data"],
            saved["num_steps"],
            evaluation=modes.noiseless_forward,
            inputs=inputs,
        )
        restored = source.restore(_posterior_like(method.build(problem)))
        assert restored is not None
        posterior, _ = restored
        scaling = {
            name: None if a is None else Affine(np.asarray(a[0]), np.asarray(a[1]))
            for name, a in saved["scaling"].items()
        }
        return cls(
            posterior=posterior,
            history=saved["history"],
            diagnosis=[Finding(**finding) for finding in saved["diagnosis"]],
            model=modes.evaluation,
            method=method,
            likelihood=likelihood,
            scaling=Standardizer(**scaling),
            num_data=saved["num_data"],
            num_steps=saved["num_steps"],
            eval_kwargs=saved["eval_kwargs"],
            key=jax.random.wrap_key_data(jnp.asarray(saved["key"], jnp.uint32)),
            inputs=inputs,
        )


def _posterior_like(run: Inference) -> PyTree:
    """Returns the posterior of a finished fit with shapes in place of its arrays."""
    if run.shapes is not None:
        return run.shapes()
    return jax.eval_shape(lambda key: run.posterior(run.init(key)), jax.random.key(0))


def _saved_in(folder: str | Path) -> Folder:
    # A folder of its own, so that the fit can lie beside checkpoints.
    return Folder(Path(folder) / "fit", {"kind": "Fit.save"}, keep=1)


def _key_data(key: PRNGKey) -> PyTree:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def to_json(value: object) -> object:
    """Returns a dataclass as {"name": ..., field: ...}, where "custom" stands for opaque values."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if dataclasses.is_dataclass(value):
        name = getattr(value, "name", type(value).__name__)
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": name, **fields}
    return {"name": "custom"}


def _method_from_json(saved: dict[str, Any]) -> Method:
    fields = {name: value for name, value in saved.items() if name != "name"}
    for name, value in fields.items():
        if isinstance(value, dict):
            if value["name"] == "custom":
                raise ValueError(
                    f"The fit's method has a {name} of its own, which is not saved: pass the "
                    "method, Fit.load(folder, model, method=...)."
                )
            fields[name] = _method_from_json(value)
    return infer.METHODS[saved["name"]](**fields)


def _likelihood_from_json(saved: dict[str, Any]) -> Likelihood:
    fields = {name: value for name, value in saved.items() if name != "name"}
    known = getattr(likelihoods, saved["name"], None)
    if known is None:
        raise ValueError(
            f"The fit's likelihood {saved['name']} is not one of bnn_jax.likelihoods: pass it, "
            "Fit.load(folder, model, likelihood=...)."
        )
    return known(**fields)
