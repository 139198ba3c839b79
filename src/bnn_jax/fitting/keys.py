"""The keys of a fit: every random number of it comes from one of them."""

from typing import NamedTuple

import jax

from bnn_jax.noise import PRNGKey


class Keys(NamedTuple):
    """The keys of a fit.

    Attributes:
        init: of the state before the first step.
        noise: of the noise of the steps.
        order: of the order of the examples, and of their augmentation.
        predict: of predictions, by default.
    """

    init: PRNGKey
    noise: PRNGKey
    order: PRNGKey
    predict: PRNGKey

    @classmethod
    def of(cls, key: "PRNGKey | Keys") -> "Keys":
        """Returns the keys that are derived from one key."""
        return key if isinstance(key, Keys) else cls(*jax.random.split(key, 4))
