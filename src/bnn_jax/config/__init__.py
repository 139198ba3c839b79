"""From a YAML file to checked values: the schema of a run's settings, and how they are read."""

from bnn_jax.config.errors import ConfigError as ConfigError
from bnn_jax.config.schema import Config as Config
from bnn_jax.config.schema import dump as dump
from bnn_jax.config.schema import load as load
