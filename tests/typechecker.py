"""How the annotations of bnn_jax are checked in the tests; pyproject.toml names `check`."""

from beartype import BeartypeConf, beartype

# As for mypy, an int may stand where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
