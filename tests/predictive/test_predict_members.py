"""Prediction in chunks, and by networks and ensembles of each kind."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import gaussian, to_bnn
from bnn_jax.likelihoods import Categorical, Normal
from bnn_jax.predictive import members
from bnn_jax.predictive.posterior_predictive import predict
from core_helpers import assert_mean, data, key
from predict_helpers import LABELS, Q, X, call, network, outputs, softmax


class TestChunks:
    @pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
    @pytest.mark.parametrize("antithetic", [False, True])
    def test_they_do_not_change_the_answer(self, batch_size: int, antithetic: bool) -> None:
        options: dict[str, Any] = {"targets": LABELS, "antithetic": antithetic}
        options["keep_samples"] = True
        whole = call(**options)
        got = call(**options, batch_size=batch_size)
        for field in dataclasses.fields(whole):
            np.testing.assert_allclose(
                getattr(got, field.name), getattr(whole, field.name), rtol=1e-5, atol=1e-6
            )

    @pytest.mark.parametrize("batch_size", [1, 4, 10])
    def test_nor_that_of_a_function_with_noise_of_its_own(self, batch_size: int) -> None:
        def noisy(k: Any, x: Any) -> Any:
            return jax.random.normal(k, (len(x), 3)) + x

        def at(size: int) -> Any:
            return predict(
                key(5), noisy, X, num_samples=4, likelihood=Categorical(), batch_size=size
            )

        np.testing.assert_allclose(at(batch_size).probabilities, at(7).probabilities, rtol=1e-5)
        # Each example has its own noise.
        flat = predict(key(5), noisy, jnp.zeros((10, 3)), num_samples=4, likelihood=Categorical())
        assert len(np.unique(flat.probabilities[:, 0])) == 10

    def test_nor_quantiles(self) -> None:
        options: dict[str, Any] = {"likelihood": Normal(), "levels": (0.1, 0.9)}
        whole, got = call(**options), call(**options, batch_size=3)
        for level in (0.1, 0.9):
            np.testing.assert_allclose(
                got.quantiles[level], whole.quantiles[level], rtol=1e-4, atol=1e-5
            )

    def test_samples_are_kept_on_request(self) -> None:
        got = call(keep_samples=True, batch_size=4)
        np.testing.assert_allclose(got.samples, outputs(5), rtol=1e-4, atol=1e-5)


class TestMembers:
    def test_a_flax_network_and_its_options(self) -> None:
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x: Any, scale: Any, *, train: bool) -> Any:
                x = nn.BatchNorm(use_running_average=not train)(x)
                return scale * nn.Dense(3)(x)

        net = Net()
        variables = net.init(key(0), X, 2.0, train=False)
        model = to_bnn(net, variables)
        got = predict(
            key(1),
            model,
            (X, jnp.full((10, 1), 2.0)),
            num_samples=3,
            likelihood=Categorical(),
            train=False,
        )
        each = [
            softmax(
                np.asarray(
                    net.apply(
                        {
                            "params": model.sample(jax.random.fold_in(key(1), s), model.posterior),
                            "batch_stats": variables["batch_stats"],
                        },
                        X,
                        2.0,
                        train=False,
                    )
                )
            )
            for s in range(3)
        ]
        np.testing.assert_allclose(got.probabilities, np.mean(each, axis=0), rtol=1e-5)

    def test_an_ensemble_is_a_list_of_params(self) -> None:
        trees = [gaussian.sample(key(i), Q) for i in range(3)]
        got = call(posterior=trees, num_samples=None, keep_samples=True)
        assert got.num_samples == 3
        np.testing.assert_allclose(
            got.samples, np.stack([network(t, X) for t in trees]), rtol=1e-5, atol=1e-6
        )

    def test_members_of_an_ensemble_may_have_variables_of_their_own(self) -> None:
        net = nn.BatchNorm(use_running_average=True, use_scale=False)
        model = to_bnn(net, net.init(key(0), X))
        trees = [{"bias": data(i, 3)} for i in range(3)]
        states = [{"batch_stats": {"mean": data(9 + i, 3), "var": jnp.ones(3)}} for i in range(3)]

        def predicted(variables: Any) -> Any:
            return predict(
                key(1),
                model,
                X,
                likelihood=Normal(std=1.0),
                posterior=trees,
                variables=variables,
                keep_samples=True,
            )

        def alone(tree: Any, state: Any) -> Any:
            return net.apply({"params": tree, **state}, X)

        own = [alone(tree, state) for tree, state in zip(trees, states, strict=True)]
        np.testing.assert_allclose(predicted(states).samples, own, rtol=1e-5, atol=1e-6)
        one = [alone(tree, states[1]) for tree in trees]
        np.testing.assert_allclose(predicted(states[1]).samples, one, rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match="has 3 members and variables has 2"):
            predicted(states[:2])
        with pytest.raises(ValueError, match="must be variables of one network"):
            predicted([*states[:2], {"batch_stats": {}}])
        with pytest.raises(ValueError, match="list of variables is for an ensemble"):
            predict(key(1), model, X, likelihood=Normal(std=1.0), variables=states, num_samples=3)

    def test_a_deterministic_network_has_no_epistemic_uncertainty(self) -> None:
        got = call(posterior=gaussian.mean(Q), num_samples=None)
        assert got.num_samples == 1
        np.testing.assert_allclose(
            got.probabilities, softmax(np.asarray(network(gaussian.mean(Q), X))), rtol=1e-5
        )
        np.testing.assert_allclose(got.mutual_information, 0.0, atol=1e-6)

    def test_mc_dropout(self) -> None:
        net = nn.Sequential([nn.Dense(50), nn.relu, nn.Dropout(0.5, deterministic=False)])
        variables = net.init({"params": key(0), "dropout": key(1)}, X)

        def dropout(k: Any, x: Any) -> Any:
            return net.apply(variables, x, rngs={"dropout": k})

        got = predict(
            key(2), dropout, X, num_samples=2000, likelihood=lambda y: y, keep_samples=True
        )
        plain = np.asarray(nn.relu(X @ variables["params"]["layers_0"]["kernel"]))
        assert_mean(got.samples, plain)
        # A mask of rate 0.5 has the variance of the activation's square.
        strong = plain > 0.1
        ratio = got.epistemic_variance[strong] / plain[strong] ** 2
        assert np.all(np.abs(ratio - 1) < 5 * np.sqrt(1 / 2000))

    def test_one_program_for_any_number_of_samples_and_any_posterior(self) -> None:
        traces = []

        def counted(params: Any, x: Any) -> Any:
            traces.append(x.shape)
            return network(params, x)

        def run(samples: int, scale: float) -> None:
            posterior = jax.tree.map(lambda a: a * scale, Q)
            predict(
                key(0),
                counted,
                X,
                posterior=posterior,
                num_samples=samples,
                likelihood=Categorical(),
                batch_size=4,
            )

        run(2, 1.0)
        once = len(traces)
        run(7, 1.0)
        run(7, 0.5)
        assert len(traces) == once
        assert set(traces) == {(4, 3)}  # the last chunk is padded

    def test_memory_does_not_grow_with_the_number_of_samples(self) -> None:
        from bnn_jax.predictive import posterior_predictive as module

        drawn = members.of(network, Q, None, 32, False, {})
        shapes = []
        for samples in (32, 1024):
            compiled = (
                module._compiled()
                .lower(
                    key(0),
                    drawn.data,
                    X,
                    None,
                    jnp.asarray(0),
                    jnp.asarray(samples),
                    program=drawn.program,
                    likelihood=Categorical(),
                    levels=(),
                    stacked=0,
                )
                .compile()
            )
            shapes.append(compiled.memory_analysis().temp_size_in_bytes)
        assert shapes[0] == shapes[1]
