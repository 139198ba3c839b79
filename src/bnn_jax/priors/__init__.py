"""Priors over weights, and the KL divergence of a posterior from them.

A prior is a frozen dataclass of numbers (or arrays that broadcast to the weight), registered as a
pytree. It serves every random weight, or a tree with a prior at each random position gives each its
own: that is how a prior centred on pretrained weights is kept, saved and restored.

KL divergences are in nats, summed over every random weight exactly once. They are functions of the
posterior and the prior alone, so a layer that is called twice still counts once.

Sources: Blundell et al. 2015, arXiv:1505.05424 (scale mixture, eq. 7; Monte Carlo, eq. 2);
Krishnan, Subedar, Tickoo 2020, arXiv:1906.05323 (prior centred on pretrained weights).
"""

from bnn_jax.priors.divergence import kl_by_layer as kl_by_layer
from bnn_jax.priors.divergence import kl_by_weight as kl_by_weight
from bnn_jax.priors.divergence import kl_divergence as kl_divergence
from bnn_jax.priors.divergence import prior_leaves as prior_leaves
from bnn_jax.priors.divergence import total as total
from bnn_jax.priors.families import HALF_LOG_2PI as HALF_LOG_2PI
from bnn_jax.priors.families import LaplacePrior as LaplacePrior
from bnn_jax.priors.families import NormalPrior as NormalPrior
from bnn_jax.priors.families import Prior as Prior
from bnn_jax.priors.families import ScaleMixturePrior as ScaleMixturePrior
from bnn_jax.priors.families import StudentTPrior as StudentTPrior
from bnn_jax.priors.families import centred_on as centred_on
