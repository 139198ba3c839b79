"""Inference methods, one a file, and MindSpore's SVI and ELBO for variational autoencoders.

method = infer.map(learning_rate=1e-3)
run = method.build(Problem(model, model.forward(), likelihood, num_data, num_steps))
"""

from bnn_jax.infer.elbo import ELBO
from bnn_jax.infer.loss_cell import WithLossCell
from bnn_jax.infer.method import Inference, Info, Method
from bnn_jax.infer.methods.bayes_by_backprop import BayesByBackprop as bayes_by_backprop
from bnn_jax.infer.methods.ensemble import Ensemble as ensemble
from bnn_jax.infer.methods.ivon import IVON as ivon
from bnn_jax.infer.methods.laplace import Laplace as laplace
from bnn_jax.infer.methods.map import MAP as map
from bnn_jax.infer.methods.mc_dropout import MCDropout as mc_dropout
from bnn_jax.infer.methods.nuts import HMC as hmc
from bnn_jax.infer.methods.nuts import NUTS as nuts
from bnn_jax.infer.methods.sghmc import SGHMC as sghmc
from bnn_jax.infer.methods.sgld import SGLD as sgld
from bnn_jax.infer.methods.swag import SWAG as swag
from bnn_jax.infer.problem import Problem
from bnn_jax.infer.svi import SVI

# Methods by the name that configs and saved fits have for them.
METHODS = {
    "bayes_by_backprop": bayes_by_backprop,
    "ensemble": ensemble,
    "hmc": hmc,
    "ivon": ivon,
    "laplace": laplace,
    "map": map,
    "mc_dropout": mc_dropout,
    "nuts": nuts,
    "sghmc": sghmc,
    "sgld": sgld,
    "swag": swag,
}

__all__ = [
    "ELBO",
    "METHODS",
    "SVI",
    "Inference",
    "Info",
    "Method",
    "Problem",
    "WithLossCell",
    "bayes_by_backprop",
    "ensemble",
    "hmc",
    "ivon",
    "laplace",
    "map",
    "mc_dropout",
    "nuts",
    "sghmc",
    "sgld",
    "swag",
]
