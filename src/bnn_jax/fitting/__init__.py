"""`fit`: epochs over data with any inference method, checkpoints, validation and diagnosis."""

from bnn_jax.fitting.diagnosis import Finding as Finding
from bnn_jax.fitting.diagnosis import diagnose as diagnose
from bnn_jax.fitting.divergence import Diverged as Diverged
from bnn_jax.fitting.early_stopping import patience as patience
from bnn_jax.fitting.fit_posterior import Interrupted as Interrupted
from bnn_jax.fitting.fit_posterior import fit as fit
from bnn_jax.fitting.keys import Keys as Keys
from bnn_jax.fitting.result import Fit as Fit
