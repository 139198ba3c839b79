"""The errors that a user can fix, which the command line reports in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from bnn_jax.config.errors import ConfigError


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns errors that the user can fix into ConfigError; other errors pass through."""
    from bnn_jax.data import DataError
    from bnn_jax.experiment import RunError
    from bnn_jax.models.names import NetworkError
    from bnn_jax.networks.user_code import UserCodeError

    try:
        yield
    except (DataError, RunError, UserCodeError, NetworkError) as error:
        raise ConfigError(str(error)) from error
