"""Training by SVI: what it converges to, what it keeps, and its errors."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import nnx

from bnn_jax.dpn import VAE, ConditionalVAE
from bnn_jax.infer import ELBO, SVI, WithLossCell
from bnn_jax.transforms import train_cells
from vae_helpers import Decoder, Encoder, dense, identity, small_vae

rng = np.random.default_rng(0)
X = rng.random((40, 4, 4, 1), np.float32)
BATCHES = [X[i : i + 10] for i in range(0, 40, 10)]
KEY = jax.random.key(0)
SMALL = small_vae()


def svi(vae: Any = None, tx: Any = None) -> SVI:
    vae = nnx.clone(SMALL) if vae is None else vae
    return SVI(WithLossCell(vae, ELBO()), optax.adam(1e-2) if tx is None else tx)


def params(module: nnx.Module) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param))]


def assert_same(a: nnx.Module, b: nnx.Module) -> None:
    for x, y in zip(params(a), params(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_linear_vae_reaches_the_maximum_likelihood_of_probabilistic_pca() -> None:
    """Its optimum has a closed form: Tipping, Bishop 1999; Lucas et al. 2019, arXiv:1911.02469."""
    size, n = 5, 400
    mix = rng.normal(size=(size, size)) * np.array([2.0, 1.5, 0.3, 0.3, 0.3])
    x = rng.normal(size=(n, size)) @ mix.T + 1.0
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    model = np.concatenate([np.maximum(eigenvalues[:2], 0.5), np.full(3, 0.5)])
    nll = 0.5 * np.sum(np.log(2 * np.pi * model) + eigenvalues / model)
    optimum = nll - size / 2 * np.log(np.pi)

    vae = VAE(identity, identity, size, 2, rngs=nnx.Rngs(1))
    trainer = svi(vae, optax.adam(optax.cosine_decay_schedule(0.05, 1000)))
    trainer.run(KEY, [x.astype(np.float32)] * 100, epochs=10)
    elbo = ELBO()
    keys = jax.random.split(jax.random.key(1), 200)
    losses = jax.vmap(lambda key: elbo(vae(key, jnp.asarray(x, jnp.float32))) / n)(keys)
    losses = np.asarray(losses, np.float64)
    error = losses.std() / np.sqrt(len(losses))
    assert error < 0.01 * optimum
    assert -5 * error < losses.mean() - optimum < 5 * error + 0.01 * optimum


def test_two_runs_are_one_longer_run() -> None:
    longer, twice, other = svi(), svi(), svi()
    network = longer.run(KEY, X, 3, batch_size=10)
    assert network is longer.net_with_loss.backbone
    twice.run(KEY, X, 2, batch_size=10)
    twice.run(KEY, X, 1, batch_size=10)
    assert_same(network, twice.net_with_loss.backbone)
    assert longer.get_train_loss() == twice.get_train_loss()
    other.run(jax.random.key(1), X, 3, batch_size=10)
    assert other.get_train_loss() != longer.get_train_loss()


def test_the_loss_is_that_per_example_of_the_last_epoch() -> None:
    trainer = svi(tx=optax.sgd(0.0))
    trainer.run(KEY, [X[:20], X[20:]], epochs=2)
    vae, elbo = trainer.net_with_loss.backbone, ELBO()
    noise_key = jax.random.fold_in(KEY, 0)
    loss = jax.jit(lambda i, x: elbo(vae(jax.random.fold_in(noise_key, i), x)))
    expected = sum(float(loss(i, x)) for i, x in ((2, X[:20]), (3, X[20:])))
    assert trainer.get_train_loss() == pytest.approx(expected / 40, rel=1e-6)


def test_a_step_compiles_once() -> None:
    traces = []

    class Counting(ELBO):
        def __call__(self, data: Any, label: Any = None) -> Any:
            traces.append(1)
            return super().__call__(data, label)

    trainer = SVI(WithLossCell(nnx.clone(SMALL), Counting()), optax.adam(1e-2))
    trainer.run(KEY, X, 2, batch_size=10)
    trainer.run(KEY, X, 1, batch_size=10)
    assert len(traces) == 1


def test_arrays_batches_and_dicts_are_read_alike() -> None:
    labels = np.zeros(10, np.int32)
    forms = [
        BATCHES,
        [(x, labels) for x in BATCHES],
        [{"image": x, "label": labels} for x in BATCHES],
        [jnp.asarray(x) for x in BATCHES],
    ]
    losses = []
    for batches in forms:
        trainer = svi()
        trainer.run(KEY, batches, 1)
        losses.append(trainer.get_train_loss())
    assert losses == [losses[0]] * 4


def test_batch_statistics_are_carried_and_the_network_is_put_into_training_mode() -> None:
    class Normalised(nnx.Module):
        def __init__(self) -> None:
            self.norm = nnx.BatchNorm(16, rngs=nnx.Rngs(0))
            self.fc = dense(16, 8)

        def __call__(self, x: Any) -> Any:
            return self.fc(self.norm(x.reshape(len(x), -1)))

    vae = VAE(Normalised(), Decoder(8, (4, 4, 1)), 8, 3, rngs=nnx.Rngs(0))
    vae.eval()
    svi(vae).run(KEY, [X] * 100, 4)
    exact = X.reshape(40, 16).mean(axis=0)
    np.testing.assert_allclose(vae.encoder.norm.mean[...], exact, rtol=0.02)


def test_a_conditional_vae_gets_the_labels() -> None:
    """Images that are determined by their label are learned with a code without information."""
    y = np.arange(40) % 4
    x = np.float32((np.arange(4)[None] == y[:, None])[:, None, :, None].repeat(4, axis=1))
    cvae = ConditionalVAE(Encoder(16, 8, 4), Decoder(8, (4, 4, 1)), 8, 2, 4, rngs=nnx.Rngs(0))
    trainer = SVI(WithLossCell(cvae, ELBO()), optax.adam(0.05))
    first = 4 * 4 * 0.25
    trainer.run(KEY, [(x, y)] * 50, 6)
    assert trainer.get_train_loss() < 0.05 * first
    samples = cvae.generate_sample(jax.random.key(1), jnp.arange(4), 4, (-1, 4, 4, 1))
    np.testing.assert_allclose(samples, x[:4], atol=0.2)


def test_a_cell_of_the_transforms_and_a_subclass_of_ours_will_do() -> None:
    class Doubled(WithLossCell):
        def __call__(self, key: Any, x: Any, label: Any) -> Any:
            return 2.0 * super().__call__(key, x, label)

    plain: Any = train_cells.WithLossCell(nnx.clone(SMALL), ELBO())
    losses = []
    for cell in (plain, Doubled(nnx.clone(SMALL), ELBO())):
        trainer = SVI(cell, optax.sgd(0.0))
        assert trainer.run(KEY, BATCHES, 1) is cell.backbone_network
        losses.append(trainer.get_train_loss())
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-6)


def test_an_interrupted_run_keeps_what_it_has_learned() -> None:
    def interrupted() -> Any:
        yield BATCHES[0]
        raise KeyboardInterrupt

    one, stopped = svi(), svi()
    one.run(KEY, BATCHES[:1], 1)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(KEY, interrupted(), 1)
    assert_same(one.net_with_loss.backbone, stopped.net_with_loss.backbone)


def test_data_that_ends() -> None:
    class Once:
        """Re-iterable by its looks only."""

        def __init__(self) -> None:
            self.batches = iter(BATCHES)

        def __iter__(self) -> Any:
            yield from self.batches

    trainer = svi()
    with pytest.raises(ValueError, match="no batches in epoch 2: pass a list"):
        trainer.run(KEY, Once(), 2)
    with pytest.raises(ValueError, match="no batches in epoch"):
        svi().run(KEY, [], 1)
    with pytest.raises(ValueError, match="iterator, which lasts for one epoch"):
        svi().run(KEY, iter(BATCHES), 2)


def test_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    # Users have no type checker at run time.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    vae, anything = nnx.clone(SMALL), lambda *_: jnp.zeros(())
    bad: Any = train_cells.WithLossCell(vae, anything)
    with pytest.raises(TypeError, match="infer.ELBO .* as loss_fn"):
        SVI(bad, optax.sgd(0.1))
    bad = vae
    with pytest.raises(TypeError, match=r"needs an infer\.WithLossCell as net_with_loss"):
        SVI(bad, optax.sgd(0.1))
    bad = identity
    with pytest.raises(TypeError, match="nnx.Module as backbone"):
        WithLossCell(bad, ELBO())
    bad = 0.1
    with pytest.raises(TypeError, match="optax transformation as optimizer, got 0.1"):
        SVI(WithLossCell(vae, ELBO()), bad)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        svi().run(KEY, BATCHES, 0)
    with pytest.raises(RuntimeError, match="no training loss yet"):
        svi().get_train_loss()

    class Empty(nnx.Module):
        pass

    with pytest.raises(ValueError, match="network with parameters"):
        SVI(WithLossCell(Empty(), ELBO()), optax.sgd(0.1))
