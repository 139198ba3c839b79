"""The settings of a run: their schema, and reading and checking them from a YAML file."""

from bnn_jax.config.errors import ConfigError as ConfigError
from bnn_jax.config.schema import Config as Config
from bnn_jax.config.schema import dump as dump
from bnn_jax.config.schema import load as load
