"""Training: a state, `init`, and a pure `step` from state to state.

    state = init(posterior, optimizer)
    step = jax.jit(
        build_step(forward, loss_fn, optimizer, prior, num_data=60_000), donate_argnums=0
    )
    state, info = step(state, run_key, (images, labels))

The noise of a step comes from fold_in(run_key, state.step), so a run that was interrupted and
resumed draws the same noise as a run that was not interrupted.

Source: Blundell et al. 2015, arXiv:1505.05424, section 3.2 and equation 8.
"""

from bnn_jax.train.loss import Forward as Forward
from bnn_jax.train.state import State as State
from bnn_jax.train.state import init as init
from bnn_jax.train.step import build_step as build_step
from bnn_jax.train.step_info import StepInfo as StepInfo
