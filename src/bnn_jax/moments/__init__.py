"""Uncertainty in one pass: means and variances of a network's outputs, without sampling."""

from bnn_jax.moments.deferred import PartialOutputs as PartialOutputs
from bnn_jax.moments.deferred import Plan as Plan
from bnn_jax.moments.deferred import partial_outputs as partial_outputs
from bnn_jax.moments.deferred import plan as plan
from bnn_jax.moments.errors import MomentsError as MomentsError
from bnn_jax.moments.propagate import mean_field_tree as mean_field_tree
from bnn_jax.moments.propagate import outputs as outputs
from bnn_jax.moments.value import Moments as Moments
