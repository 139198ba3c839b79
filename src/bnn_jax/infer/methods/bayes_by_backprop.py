"""Bayes by Backprop: variational inference with an independent Gaussian for each weight.

    minimise  E_q[-log p(data | w)] + KL(q || prior),   q(w) = prod_i N(w_i; mean_i, std_i)

per training example in nats, with reparameterised gradients on minibatches; std = softplus(rho) +
1e-6. `bnn_jax.train` holds the step; the estimator of each weight is the model's.

Source: Blundell, Cornebise, Kavukcuoglu, Wierstra 2015, "Weight Uncertainty in Neural Networks",
arXiv:1505.05424.
"""

import dataclasses
from typing import ClassVar

import optax

from bnn_jax import objective, train
from bnn_jax.infer.method import Inference, check_positive
from bnn_jax.infer.problem import Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import MeanField


@dataclasses.dataclass(frozen=True, kw_only=True)
class BayesByBackprop:
    """Hyper-parameters of Bayes by Backprop.

    Attributes:
        learning_rate: of Adam; decays to zero by a cosine over the run.
        optimizer: any optax transformation, in place of Adam and its schedule.
        kl_warmup: fraction of the steps over which the weight of the KL rises from 0 to 1
            (Bowman et al. 2016, arXiv:1511.06349).
        num_samples: weight samples a step; the cost grows in proportion.
        antithetic: draw them in pairs with opposite noise.
        kl_every: compute the value of the KL in every so many steps only.
    """

    learning_rate: float = 1e-3
    optimizer: optax.GradientTransformation | None = None
    kl_warmup: float = 0.0
    num_samples: int = 1
    antithetic: bool = False
    kl_every: int = 1

    name: ClassVar[str] = "bayes_by_backprop"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self.name, learning_rate=self.learning_rate)
        if not 0.0 <= self.kl_warmup <= 1.0:
            raise ValueError(
                f"{self.name}: kl_warmup is a fraction of the steps, 0 to 1, got {self.kl_warmup}."
            )

    def build(self, problem: Problem) -> Inference:
        rate = optax.cosine_decay_schedule(self.learning_rate, problem.num_steps)
        optimizer = problem.masked(self.optimizer or optax.adam(rate))
        warmup = round(self.kl_warmup * problem.num_steps)
        step = train.build_step(
            problem.forward,
            problem.likelihood.nll,
            optimizer,
            problem.model.prior,
            num_data=problem.num_data,
            kl_schedule=objective.linear(warmup_steps=warmup) if warmup else None,
            num_samples=self.num_samples,
            antithetic=self.antithetic,
            kl_every=self.kl_every,
            metric_fn=problem.metric_fn,
        )

        def init(key: PRNGKey) -> train.State:
            model = problem.model
            return train.init(model.posterior, optimizer, variables=model.variables)

        def posterior(state: train.State) -> MeanField:
            return MeanField(state.posterior, state.variables)

        return Inference(init, step, posterior)
