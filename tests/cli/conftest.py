"""The command line in tests keeps no compiled programs of its own."""

from collections.abc import Iterator

import pytest

from bnn_jax.cli import errors


@pytest.fixture(autouse=True, scope="package")
def no_compilation_cache() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errors, "keep_compiled_code", lambda: None)
        yield
