"""`python -m bnn_jax.cli`, the same as the command `bnn-jax`."""

import sys

from bnn_jax.cli import main

sys.exit(main())
