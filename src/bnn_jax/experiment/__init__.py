"""Runs: the objects built from settings, the run folder, and training and evaluation."""

from bnn_jax.experiment.commands import evaluate as evaluate
from bnn_jax.experiment.commands import load as load
from bnn_jax.experiment.commands import summarise as summarise
from bnn_jax.experiment.folder import BaselineIncomplete as BaselineIncomplete
from bnn_jax.experiment.folder import RunError as RunError
from bnn_jax.experiment.run import Run as Run
from bnn_jax.experiment.seeds import table as table
from bnn_jax.experiment.seeds import train as train
