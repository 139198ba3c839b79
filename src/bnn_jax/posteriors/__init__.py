"""Posteriors over a network's params: anything that can be sampled, one class a file."""

from bnn_jax.posteriors.dropout import Dropout as Dropout
from bnn_jax.posteriors.laplace import Laplace as Laplace
from bnn_jax.posteriors.linearised import Linearised as Linearised
from bnn_jax.posteriors.low_rank import LowRank as LowRank
from bnn_jax.posteriors.mean_field import MeanField as MeanField
from bnn_jax.posteriors.mixture import Mixture as Mixture
from bnn_jax.posteriors.point import Point as Point
from bnn_jax.posteriors.protocol import HasOutputs as HasOutputs
from bnn_jax.posteriors.protocol import Posterior as Posterior
from bnn_jax.posteriors.protocol import component as component
from bnn_jax.posteriors.protocol import draw as draw
from bnn_jax.posteriors.protocol import size as size
from bnn_jax.posteriors.samples import Samples as Samples
