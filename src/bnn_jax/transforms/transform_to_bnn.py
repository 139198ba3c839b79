"""MindSpore's `TransformToBNN`: in-place conversion of a trainable network to a Bayesian one.

    train_net = TrainOneStepCell(WithLossCell(net, loss_fn), optax.adam(1e-3))
    train_bnn = TransformToBNN(train_net, dnn_factor=1, bnn_factor=1e-4).transform_to_bnn_model()
    loss = train_bnn(x, label)

`TransformToBNN` replaces layers by Bayesian layers, which hold their posteriors. In contrast,
`bnn_jax.to_bnn` does not change the network; it supports all layers and three estimators.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import cast

from flax import nnx
from flax.nnx import filterlib
from flax.typing import PathParts
from jaxtyping import PyTree

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

Path = tuple[Hashable, ...]


class TransformToBNN:
    """Replaces the ordinary layers of a trainable network by Bayesian ones.

    The conversion finds nnx.Linear and nnx.Conv at any depth, in attributes, nnx.List, nnx.Dict,
    nnx.Sequential and plain containers, and replaces them in the given network itself. A layer that
    occurs in two places becomes one Bayesian layer in both. All other parts of the network stay
    unchanged, bit for bit. If an error is raised, no layer has been replaced.

    The new training cell has the same optax transformation and the same filter `wrt`, so all
    settings of the optimizer remain valid. The state of the optimizer is initialised again for all
    parameters, including the step count, the schedule and values changed through
    inject_hyperparams: one step count applies to all parameters, and Adam's bias correction
    requires that of the new ones. The given cell cannot be trained any more; use the returned cell.

    Args:
        trainable_dnn: a `TrainOneStepCell` of a `WithLossCell`.
        dnn_factor: factor of the data loss, >= 0.
        bnn_factor: factor of the KL divergence, >= 0.
        reverse_kl: see `WithBNNLossCell`.
        rngs: draws the initial values of the posteriors (stream `params`) and seeds the noise of
            each new layer (stream `noise`). The default is nnx.Rngs(0).

    Attributes:
        backbone, loss_fn, optimizer, dnn_factor, bnn_factor: as in MindSpore.

    Raises:
        TypeError: trainable_dnn has another type, or a factor is not an int or a float.
        ValueError: a factor is negative.
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
                "TransformToBNN: trainable_dnn must be a TrainOneStepCell, "
                f"TrainOneStepCell(WithLossCell(net, loss_fn), optimizer), got {trainable_dnn!r}."
            )
        if rngs is not None and not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"TransformToBNN: rngs must be an nnx.Rngs, got {rngs!r}.")
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
        add_dense_args: Mapping[str, object] | None = None,
        add_conv_args: Mapping[str, object] | None = None,
        *,
        keep_weights: bool = False,
        initial_std: float = INITIAL_STD,
    ) -> TrainOneStepCell:
        """Replaces every nnx.Linear by a `DenseReparam` and every nnx.Conv by a `ConvReparam`.

        Args:
            get_dense_args: a function of an nnx.Linear that returns the arguments of its
                `DenseReparam`, by default in_channels, out_channels and has_bias of the layer.
                dtype, param_dtype and precision are those of the layer unless given.
            get_conv_args: a function of an nnx.Conv that returns the arguments of its
                `ConvReparam`, by default all arguments that define the convolution.
            add_dense_args: further arguments, such as weight_prior_fn. As in MindSpore, they must
                not contain arguments that get_dense_args returns.
            add_conv_args: as add_dense_args, for `ConvReparam`.
            keep_weights: start the means of the posteriors at the weights of the network. By
                default they are drawn as in MindSpore, mean ~ N(0, 0.1), for any weights.
            initial_std: with keep_weights, the initial std of every posterior.

        Returns:
            The trainable Bayesian network: a `TrainOneStepCell` of a `WithBNNLossCell`.

        Raises:
            TypeError: an argument has the wrong type, or the Bayesian layer does not have it.
            ValueError: no layer can be replaced, a layer has no equivalent counterpart, two layers
                share a weight, or an argument is given twice. No layer has been replaced then.
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
        add_args: Mapping[str, object] | None = None,
        *,
        keep_weights: bool = False,
        initial_std: float = INITIAL_STD,
    ) -> TrainOneStepCell:
        """Replaces every layer of one type by a Bayesian layer.

        Args:
            dnn_layer_type: nnx.Linear, nnx.Conv or a subclass.
            bnn_layer_type: `DenseReparam` or `DenseLocalReparam`; for nnx.Conv `ConvReparam`.
            get_args: as get_dense_args or get_conv_args of `transform_to_bnn_model`; None for its
                default. It is required for a dnn_layer_type that overrides `__call__`.
            add_args: as add_dense_args or add_conv_args of `transform_to_bnn_model`.
            keep_weights: see `transform_to_bnn_model`.
            initial_std: see `transform_to_bnn_model`.

        Returns, Raises:
            As `transform_to_bnn_model`; also ValueError if the two types do not correspond.
        """
        base = base_of(dnn_layer_type, bnn_layer_type)
        if get_args is None:
            if dnn_layer_type.__call__ is not base.__call__:
                raise ValueError(
                    f"{dnn_layer_type.__name__} overrides the __call__ of nnx.{base.__name__}: "
                    "pass get_args, a function of the layer that returns the arguments of "
                    f"{bnn_layer_type.__name__}."
                )
            get_args = COUNTERPARTS[base][1]
        rule = make_rule(dnn_layer_type, bnn_layer_type, "get_args", get_args, add_args)
        return self._transform([rule], keep_weights, initial_std)

    def _transform(
        self, rules: Sequence[Rule], keep_weights: bool, initial_std: float
    ) -> TrainOneStepCell:
        if not 0 < initial_std < float("inf"):
            raise ValueError(f"initial_std must be > 0 and finite, got {initial_std!r}.")
        new = self._new_layers(rules, initial_std if keep_weights else None)
        undo: list[Callable[[], None]] = []
        try:
            backbone = _swap(self.backbone, new, set(), undo)
            left = [path for path, module in nnx.iter_modules(backbone) if id(module) in new]
            if left:
                raise ValueError(
                    f"{_name(left[0])} is in a container that cannot be changed in place: use "
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
        """Returns {id of a layer: its Bayesian layer}, without replacing any layer."""
        modules = list(nnx.iter_modules(self.backbone))
        new = {}
        for path, layer in modules:
            for rule in rules:
                if rule.applies(layer):
                    try:
                        _require_own_weights(path, layer, modules)
                        bayesian = new_layer(layer, rule, std, self.rngs)
                        _require_same_filter(self.optimizer, path, layer, bayesian)
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


def _require_own_weights(
    path: Path,
    layer: nnx.Linear | nnx.Conv,
    modules: Sequence[tuple[Path, nnx.Module]],
) -> None:
    """Raises ValueError if the layer is stacked, or if another module shares its kernel or bias."""
    dense = (layer.in_features, layer.out_features)
    shape = layer.kernel_shape if isinstance(layer, nnx.Conv) else dense
    if layer.kernel[...].shape != tuple(shape):
        raise ValueError(
            f"Its kernel has the shape {layer.kernel[...].shape} instead of {tuple(shape)}, as in "
            "stacked layers (nnx.vmap, nnx.scan): use bnn_jax.to_bnn for them."
        )
    own = {id(layer.kernel): "kernel", id(layer.bias): "bias"}
    for other_path, other in modules:
        for attribute, value in vars(other).items():
            if isinstance(value, nnx.Variable) and id(value) in own and other is not layer:
                raise ValueError(
                    f"Its {own[id(value)]} is also {_name((*other_path, attribute))}, but a "
                    "Bayesian layer cannot share weights: untie them, or use bnn_jax.to_bnn."
                )


def _require_same_filter(
    optimizer: nnx.Optimizer,
    path: Path,
    layer: nnx.Linear | nnx.Conv,
    bayesian: BayesianLayer,
) -> None:
    """Raises ValueError if the filter selects only one of the kernel and its posterior mean."""
    chooses = filterlib.to_predicate(optimizer.wrt)
    layer_path = cast(PathParts, path)
    mean = bayesian.weight_posterior.mean
    before = chooses((*layer_path, "kernel"), layer.kernel)
    after = chooses((*layer_path, "weight_posterior", "mean"), mean)
    if before != after:
        words = ("selects", "does not select") if before else ("does not select", "selects")
        raise ValueError(
            f"The optimizer's filter wrt={optimizer.wrt!r} {words[0]} its kernel, but {words[1]} "
            "weight_posterior.mean, which replaces it: use a filter that selects whole layers."
        )


def _swap(
    node: PyTree, new: Mapping[int, BayesianLayer], seen: set[int], undo: list[Callable[[], None]]
) -> PyTree:
    """Puts the new layers into all containers below the node, and returns the node's replacement.

    Tuples are replaced, other containers are changed in place. Appends the reversals to `undo`.
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
    items_of: PyTree = enumerate(node) if isinstance(node, list) else _mapping(node).items()
    for key, old in list(items_of):
        value = _swap(old, new, seen, undo)
        if value is not old:
            undo.append(lambda key=key, old=old: _put(node, key, old))  # type: ignore[misc]
            _put(node, key, value)
    return node


def _mapping(node: PyTree) -> Mapping[Hashable, PyTree]:
    return node if isinstance(node, dict) else vars(node)


def _put(node: PyTree, key: PyTree, value: PyTree) -> None:
    if isinstance(node, list | dict):
        node[key] = value
    else:
        setattr(node, key, nnx.data(value) if isinstance(value, tuple) else value)


def _name(path: Path) -> str:
    return ".".join(map(str, path)) or "The backbone"
