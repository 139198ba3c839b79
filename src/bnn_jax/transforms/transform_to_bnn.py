"""MindSpore's `TransformToBNN`: a trainable network becomes a trainable Bayesian one, in place.

    train_net = TrainOneStepCell(WithLossCell(net, loss_fn), optax.adam(1e-3))
    train_bnn = TransformToBNN(train_net, dnn_factor=1, bnn_factor=1e-4).transform_to_bnn_model()
    loss = train_bnn(x, label)

Layers are replaced by Bayesian layers with posteriors of their own; `bnn_jax.to_bnn` keeps the
network as it is instead, and knows every kind of layer and three estimators.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flax import nnx
from flax.nnx import filterlib

from bnn_jax.bnn_layers import BayesianLayer, ConvReparam, DenseReparam, WithBNNLossCell
from bnn_jax.transforms.conversion import INITIAL_STD
from bnn_jax.transforms.counterparts import (
    COUNTERPARTS,
    GetArgs,
    Rule,
    base_of,
    conv_args,
    dense_args,
    make_rule,
    new_layer,
)
from bnn_jax.transforms.train_cells import TrainOneStepCell

Path = tuple[Any, ...]


class TransformToBNN:
    """Replaces the ordinary layers of a trainable network by Bayesian ones.

    nnx.Linear and nnx.Conv are found at any depth, in attributes, nnx.List, nnx.Dict,
    nnx.Sequential and plain containers; they are replaced in place, in the given network itself. A
    layer that sits in two places becomes one Bayesian layer in both. Everything else is kept as it
    is, bit for bit. Either all is replaced or, with an error, nothing.

    The new training cell has the same optax transformation and the same filter `wrt`, so all
    settings of the optimizer hold. Its state is initialised again, step and schedule included, also
    for parameters that stay: one step count serves all of them, and Adam's correction would
    be wrong for the new ones with a count that is not theirs. (What inject_hyperparams had changed
    is state too.) The cell that was given cannot be trained any more, its optimizer knows the old
    parameters; use the one that is returned.

    Args:
        trainable_dnn: a `TrainOneStepCell` of a `WithLossCell`.
        dnn_factor: factor of the data loss, >= 0.
        bnn_factor: factor of the KL divergence, >= 0.
        reverse_kl: see `WithBNNLossCell`.
        rngs: draws the posteriors' initial values (stream `params`), and gives each new layer its
            noise (stream `noise`). By default nnx.Rngs(0): the same result at every run.

    Attributes:
        backbone, loss_fn, optimizer, dnn_factor, bnn_factor: as in MindSpore.

    Raises:
        TypeError: a trainable_dnn of another type, a factor that is no int or float.
        ValueError: a negative factor.
    """

    def __init__(
        self,
        trainable_dnn: TrainOneStepCell,
        dnn_factor: float = 1,
        bnn_factor: float = 1,
        *,
        reverse_kl: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if not isinstance(trainable_dnn, TrainOneStepCell):
            raise TypeError(
                "TransformToBNN needs a TrainOneStepCell as trainable_dnn, "
                f"TrainOneStepCell(WithLossCell(net, loss_fn), optimizer), got {trainable_dnn!r}."
            )
        if rngs is not None and not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"TransformToBNN needs an nnx.Rngs as rngs, got {rngs!r}.")
        self.optimizer = trainable_dnn.optimizer
        self.backbone = trainable_dnn.network.backbone_network
        self.loss_fn = trainable_dnn.network.loss_fn
        self.dnn_factor = dnn_factor
        self.bnn_factor = bnn_factor
        self.reverse_kl = reverse_kl
        self.rngs = nnx.Rngs(0) if rngs is None else rngs
        self._with_loss(self.backbone)  # checks the factors before any work

    def transform_to_bnn_model(
        self,
        get_dense_args: GetArgs = dense_args,
        get_conv_args: GetArgs = conv_args,
        add_dense_args: Mapping[str, Any] | None = None,
        add_conv_args: Mapping[str, Any] | None = None,
        *,
        keep_weights: bool = False,
        initial_std: float = INITIAL_STD,
    ) -> TrainOneStepCell:
        """Every nnx.Linear becomes a `DenseReparam`, and every nnx.Conv a `ConvReparam`.

        Args:
            get_dense_args: a function of an nnx.Linear: the arguments of its `DenseReparam`. By
                default in_channels, out_channels and has_bias, as the layer has them. dtype,
                param_dtype and precision are the layer's unless given.
            get_conv_args: a function of an nnx.Conv: the arguments of its `ConvReparam`. By default
                all that describe the convolution.
            add_dense_args: further arguments, such as weight_prior_fn; as in MindSpore none that
                get_dense_args gives.
            add_conv_args: as add_dense_args, for `ConvReparam`.
            keep_weights: the posteriors' means start at the network's weights. By default they
                start as in MindSpore, mean ~ N(0, 0.1), for any given weights.
            initial_std: with keep_weights, the std that every posterior starts with.

        Returns:
            The trainable Bayesian network: a `TrainOneStepCell` of a `WithBNNLossCell`.

        Raises:
            TypeError: an argument of the wrong type, or one that the Bayesian layer does not have.
            ValueError: nothing to replace; a layer that its counterpart cannot express; a weight
                that two layers share; an argument given twice. Nothing was replaced then.
        """
        rules = [
            make_rule(nnx.Linear, DenseReparam, "get_dense_args", get_dense_args, add_dense_args),
            make_rule(nnx.Conv, ConvReparam, "get_conv_args", get_conv_args, add_conv_args),
        ]
        return self._transform(rules, keep_weights, initial_std)

    def transform_to_bnn_layer(
        self,
        dnn_layer_type: type[nnx.Module],
        bnn_layer_type: type[BayesianLayer],
        get_args: GetArgs | None = None,
        add_args: Mapping[str, Any] | None = None,
        *,
        keep_weights: bool = False,
        initial_std: float = INITIAL_STD,
    ) -> TrainOneStepCell:
        """Every layer of one type becomes a Bayesian one.

        Args:
            dnn_layer_type: nnx.Linear, nnx.Conv or a subclass.
            bnn_layer_type: `DenseReparam` or `DenseLocalReparam`; for nnx.Conv `ConvReparam`.
            get_args: as get_dense_args or get_conv_args of `transform_to_bnn_model`; None for the
                default there. A dnn_layer_type that has a `__call__` of its own needs it.
            add_args: as add_dense_args or add_conv_args there.
            keep_weights: see `transform_to_bnn_model`.
            initial_std: see there.

        Returns, Raises:
            As `transform_to_bnn_model`; a ValueError also for types that do not go together.
        """
        base = base_of(dnn_layer_type, bnn_layer_type)
        if get_args is None:
            if dnn_layer_type.__call__ is not base.__call__:
                raise ValueError(
                    f"{dnn_layer_type.__name__} has a __call__ of its own, so it is no "
                    f"nnx.{base.__name__}: pass get_args, a function of the layer that returns the "
                    f"arguments of {bnn_layer_type.__name__}."
                )
            get_args = COUNTERPARTS[base][1]
        rule = make_rule(dnn_layer_type, bnn_layer_type, "get_args", get_args, add_args)
        return self._transform([rule], keep_weights, initial_std)

    def _transform(
        self, rules: Sequence[Rule], keep_weights: bool, initial_std: float
    ) -> TrainOneStepCell:
        if not initial_std > 0:
            raise ValueError(f"initial_std must be > 0, got {initial_std!r}.")
        new = self._new_layers(rules, initial_std if keep_weights else None)
        undo: list[Callable[[], None]] = []
        try:
            backbone = _swap(self.backbone, new, set(), undo)
            left = [path for path, module in nnx.iter_modules(backbone) if id(module) in new]
            if left:
                raise ValueError(
                    f"{_name(left[0])} sits in a container that cannot be changed in place: use "
                    "attributes, nnx.List, nnx.Dict, lists, tuples or dicts."
                )
            optimizer = nnx.Optimizer(backbone, self.optimizer.tx, wrt=self.optimizer.wrt)
            cell = TrainOneStepCell(self._with_loss(backbone), optimizer)
        except Exception:
            for restore in reversed(undo):
                restore()
            raise
        self.backbone = backbone
        return cell

    def _new_layers(self, rules: Sequence[Rule], std: float | None) -> dict[int, BayesianLayer]:
        """The Bayesian layer for each layer's id; nothing is replaced yet."""
        modules = list(nnx.iter_modules(self.backbone))
        new = {}
        for path, layer in modules:
            for rule in rules:
                if rule.applies(layer):
                    try:
                        _require_own_weights(path, layer, modules)
                        bayesian = new_layer(layer, rule, std, self.rngs)
                        _require_same_filter(self.optimizer.wrt, path, layer, bayesian)
                    except (TypeError, ValueError) as error:
                        kind = TypeError if isinstance(error, TypeError) else ValueError
                        raise kind(f"{_name(path)}: {error}") from error
                    new[id(layer)] = bayesian
        if not new:
            wanted = " or ".join(rule.dnn.__name__ for rule in rules)
            found = ", ".join(sorted({type(module).__name__ for _, module in modules}))
            raise ValueError(
                f"The network has no layer of type {wanted} to replace; its types are: {found}."
            )
        return new

    def _with_loss(self, backbone: nnx.Module) -> WithBNNLossCell:
        return WithBNNLossCell(
            backbone, self.loss_fn, self.dnn_factor, self.bnn_factor, self.reverse_kl
        )


def _require_own_weights(path: Path, layer: Any, modules: Sequence[tuple[Path, Any]]) -> None:
    """A kernel or bias that another module holds too would be untied without a word."""
    shape = layer.kernel_shape if isinstance(layer, nnx.Conv) else _dense_shape(layer)
    if layer.kernel[...].shape != tuple(shape):
        raise ValueError(
            f"Its kernel has the shape {layer.kernel[...].shape} instead of {tuple(shape)}, as of "
            "stacked layers (nnx.vmap, nnx.scan): use bnn_jax.to_bnn for them."
        )
    own = {id(layer.kernel): "kernel", id(layer.bias): "bias"}
    for other_path, other in modules:
        for attribute, value in vars(other).items():
            if isinstance(value, nnx.Variable) and id(value) in own and other is not layer:
                raise ValueError(
                    f"Its {own[id(value)]} is also {_name((*other_path, attribute))}, but a "
                    "Bayesian layer has weights of its own: untie them, or use bnn_jax.to_bnn."
                )


def _dense_shape(layer: nnx.Linear) -> tuple[int, int]:
    return layer.in_features, layer.out_features


def _require_same_filter(wrt: Any, path: Path, layer: Any, bayesian: BayesianLayer) -> None:
    chooses = filterlib.to_predicate(wrt)
    mean = bayesian.weight_posterior.mean
    before = chooses((*path, "kernel"), layer.kernel)
    after = chooses((*path, "weight_posterior", "mean"), mean)
    if before != after:
        words = ("chooses", "does not choose") if before else ("does not choose", "chooses")
        raise ValueError(
            f"The optimizer's filter wrt={wrt!r} {words[0]} its kernel, but {words[1]} "
            "weight_posterior.mean, which replaces it: make it a filter of layers."
        )


def _swap(node: Any, new: Mapping[int, Any], seen: set[int], undo: list[Callable[[], None]]) -> Any:
    """Put the new layers into every container below; returns what takes the node's own place.

    Tuples are replaced, all else is changed in place; `undo` gets what reverses each change.
    """
    if id(node) in new:
        return new[id(node)]
    if isinstance(node, tuple):
        items = [_swap(item, new, seen, undo) for item in node]
        if all(a is b for a, b in zip(items, node, strict=True)):
            return node
        return type(node)(*items) if hasattr(node, "_fields") else tuple(items)
    if id(node) in seen or not isinstance(node, nnx.Pytree | list | dict):
        return node
    seen.add(id(node))
    items_of: Any = enumerate(node) if isinstance(node, list) else _mapping(node).items()
    for key, old in list(items_of):
        value = _swap(old, new, seen, undo)
        if value is not old:
            undo.append(lambda key=key, old=old: _put(node, key, old))  # type: ignore[misc]
            _put(node, key, value)
    return node


def _mapping(node: Any) -> Mapping[Any, Any]:
    return node if isinstance(node, dict) else vars(node)


def _put(node: Any, key: Any, value: Any) -> None:
    if isinstance(node, list | dict):
        node[key] = value
    else:
        setattr(node, key, nnx.data(value) if isinstance(value, tuple) else value)


def _name(path: Path) -> str:
    return ".".join(map(str, path)) or "The backbone"
