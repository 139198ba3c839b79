"""Ordinary NNX networks, one for each kind of layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from zoo_case import Case, filled, normals, tokens
from zoo_nnx_sequences import (
    BidirectionalRnn,
    DecodingAttention,
    EncoderDecoder,
    GemmaBlock,
    Gru,
    TiedGpt,
)


def sequential_mlp(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Sequential(
        nnx.Linear(5, 7, rngs=rngs), nnx.tanh, nnx.Linear(7, 6, rngs=rngs), nnx.relu,
        nnx.Linear(6, 3, rngs=rngs),
    )  # fmt: skip


class MnistCnn(nnx.Module):
    """The network of Flax's MNIST tutorial, with fewer features."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 4, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm1 = nnx.BatchNorm(4, rngs=rngs)
        self.dropout1 = nnx.Dropout(rate=0.025)
        self.conv2 = nnx.Conv(4, 5, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm2 = nnx.BatchNorm(5, rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(20, 8, rngs=rngs)
        self.dropout2 = nnx.Dropout(rate=0.025)
        self.linear2 = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x: Any, rngs: nnx.Rngs | None = None) -> Any:
        x = self.avg_pool(nnx.relu(self.batch_norm1(self.dropout1(self.conv1(x), rngs=rngs))))
        x = self.avg_pool(nnx.relu(self.batch_norm2(self.conv2(x))))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.dropout2(self.linear1(x), rngs=rngs))
        return self.linear2(x)


class DropoutResNet(nnx.Module):
    """Batch norm and dropout in training mode, with dropout's stream inside the module."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        conv = partial(nnx.Conv, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.conv1, self.norm1 = conv(2, 4), nnx.BatchNorm(4, rngs=rngs)
        self.conv2, self.norm2 = conv(4, 4), nnx.BatchNorm(4, rngs=rngs)
        self.skip = nnx.Conv(2, 4, kernel_size=(1, 1), use_bias=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)) + self.skip(x))
        return self.head(self.dropout(y.mean(axis=(1, 2))))


class MixerBlock(nnx.Module):
    def __init__(self, tokens: int, channels: int, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = (nnx.LayerNorm(channels, rngs=rngs) for _ in range(2))
        self.token1 = nnx.Linear(tokens, 6, rngs=rngs)
        self.token2 = nnx.Linear(6, tokens, rngs=rngs)
        self.channel1 = nnx.Linear(channels, 6, rngs=rngs)
        self.channel2 = nnx.Linear(6, channels, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        y = self.norm1(x).transpose(0, 2, 1)
        x = x + self.token2(nnx.gelu(self.token1(y))).transpose(0, 2, 1)
        return x + self.channel2(nnx.gelu(self.channel1(self.norm2(x))))


class Mixer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.patches = nnx.Conv(1, 5, (4, 4), strides=4, padding="VALID", rngs=rngs)
        self.blocks = nnx.List([MixerBlock(4, 5, rngs)])
        self.head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=1))


class GeneralLayers(nnx.Module):
    """LinearGeneral over several axes, and Einsum layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.LinearGeneral((3, 2), (3, 4), axis=(1, 2), rngs=rngs)
        self.second = nnx.LinearGeneral(4, 5, rngs=rngs)
        self.third = nnx.Einsum("bhi,hij->bhj", (3, 5, 4), (3, 4), rngs=rngs)
        self.fourth = nnx.Einsum("bhi,hio->bo", (3, 4, 2), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.tanh(self.first(x))
        x = self.third(nnx.tanh(self.second(x)))
        return self.fourth(nnx.tanh(x))


class Lora(nnx.Module):
    """A low-rank adapter inside a layer, and one around a layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.normal(0.3)
        self.first = nnx.LoRALinear(5, 6, lora_rank=2, b_initializer=init, rngs=rngs)
        base = nnx.Linear(6, 3, rngs=rngs)
        self.second = nnx.LoRA(6, 2, 3, base_module=base, b_initializer=init, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.second(nnx.relu(self.first(x)))


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(5, rngs=rngs)
        self.up, self.down = nnx.Linear(5, 7, rngs=rngs), nnx.Linear(7, 5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


class ScannedBlocks(nnx.Module):
    """Three blocks made by vmap, run by scan, each recomputed in the backward pass."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def create(rngs: nnx.Rngs) -> Block:
            return Block(rngs)

        self.blocks = create(rngs)
        self.head = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat
        def run(x: Any, block: Block) -> Any:
            return block(x)

        return nnx.remat(lambda head, y: head(y))(self.head, run(x, self.blocks))


class Norms(nnx.Module):
    """All other normalisations; weight and spectral norm write to the params they wrap."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.group = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
        self.conv2 = nnx.Conv(4, 4, (3, 3), use_bias=False, rngs=rngs)
        self.instance = nnx.InstanceNorm(4, rngs=rngs)
        self.rms = nnx.RMSNorm(100, rngs=rngs)
        self.weight = nnx.WeightNorm(nnx.Linear(100, 6, rngs=rngs), rngs=rngs)
        self.spectral = nnx.SpectralNorm(nnx.Linear(6, 3, rngs=rngs), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.group(self.conv1(x)))
        x = nnx.relu(self.instance(self.conv2(x)))
        x = self.rms(x.reshape(x.shape[0], -1))
        return self.spectral(nnx.relu(self.weight(x)))


class SqueezeExcite(nnx.Module):
    """Channels weighted by a gate of their means; PReLU's slope is a param, too."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv, self.prelu = nnx.Conv(2, 4, (3, 3), rngs=rngs), nnx.PReLU()
        self.squeeze = nnx.Linear(4, 2, rngs=rngs)
        self.excite = nnx.Linear(2, 4, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.prelu(self.conv(x))
        gate = nnx.sigmoid(self.excite(nnx.silu(self.squeeze(x.mean(axis=(1, 2))))))
        return self.head((x * gate[:, None, None, :]).mean(axis=(1, 2)))


class TemporalCnn(nnx.Module):
    """Causal, dilated convolutions over time, after a 3-d convolution of the video."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.video = nnx.Conv(1, 3, (2, 3, 3), rngs=rngs)
        conv = partial(nnx.Conv, kernel_size=(2,), padding="CAUSAL", rngs=rngs)
        self.layers = nnx.List([conv(3, 4), conv(4, 4, kernel_dilation=2)])
        self.skip = nnx.Conv(3, 4, (1,), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.video(x)).mean(axis=(2, 3))
        first, second = self.layers
        return second(nnx.relu(first(x))) + self.skip(x)


class UpsamplingCnn(nnx.Module):
    """Transposed convolutions with a skip connection."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.down = nnx.Conv(1, 3, (3, 3), strides=2, rngs=rngs)
        self.up = nnx.ConvTranspose(3, 2, (3, 3), strides=(2, 2), rngs=rngs)
        self.out = nnx.ConvTranspose(3, 1, (2, 2), transpose_kernel=True, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.out(jnp.concatenate([x, nnx.gelu(self.up(nnx.gelu(self.down(x))))], axis=-1))


class MixtureOfExperts(nnx.Module):
    """Experts made and run by vmap, weighted by a gate."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def create(rngs: nnx.Rngs) -> nnx.Linear:
            return nnx.Linear(5, 2, rngs=rngs)

        self.experts = create(rngs)
        self.gate = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        outputs = nnx.vmap(lambda expert, y: expert(y), in_axes=(0, None), out_axes=1)
        gate = nnx.softmax(self.gate(x))
        return jnp.einsum("be,bed->bd", gate, outputs(self.experts, x))


class ListsAndDicts(nnx.Module):
    """Submodules in lists and dicts, a bare param, a sown value, and a tuple of outputs."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.trunk = nnx.List([nnx.Linear(5, 6, rngs=rngs), nnx.Linear(6, 6, rngs=rngs)])
        self.heads = nnx.Dict(
            {"mean": nnx.Linear(6, 2, rngs=rngs), "scale": nnx.Linear(6, 2, rngs=rngs)}
        )
        self.offset = nnx.Param(jnp.full((2,), 0.1))

    def __call__(self, x: Any) -> tuple[Any, dict[str, Any]]:
        for layer in self.trunk:
            x = nnx.silu(layer(x))
        mean = self.heads["mean"](x) + self.offset[...][None]
        return mean, {"scale": nnx.softplus(self.heads["scale"](x))}


class SharedLayer(nnx.Module):
    """One layer under two names: NNX counts its weights once."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(4, 4, rngs=rngs)
        self.second = nnx.Linear(4, 4, use_bias=False, rngs=rngs)
        self.third = self.first

    def __call__(self, x: Any) -> Any:
        return self.third(nnx.tanh(self.second(nnx.tanh(self.first(x)))))


def _training(module: Any) -> Any:
    module.train()
    return module


def _case(
    name: str, build: Callable[[nnx.Rngs], Any], *shapes: tuple[int, ...], **options: Any
) -> Case:
    inputs = options.pop("inputs", None) or normals(*shapes)

    def make() -> tuple[Any, None]:
        if name == "norms":  # WeightNorm keeps its scales outside of the state
            return build(nnx.Rngs(1)), None
        graph, abstract = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(1))))
        return nnx.merge(graph, filled(abstract)), None

    return Case(f"nnx-{name}", make, inputs, **options)


def _evaluating(rngs: nnx.Rngs) -> Any:
    network = MnistCnn(rngs)
    network.eval()
    return network


KEY_BIAS = ("*key/bias",)

CASES = [
    _case("sequential_mlp", sequential_mlp, (4, 5)),
    _case("mnist_cnn_eval", _evaluating, (3, 8, 8, 1)),
    _case("resnet_dropout_train", lambda rngs: _training(DropoutResNet(rngs)), (4, 6, 6, 2)),
    _case("mixer", Mixer, (3, 8, 8, 1)),
    _case(
        "encoder_decoder",
        EncoderDecoder,
        inputs=lambda seed: (
            tokens(seed, 3, 4, vocabulary=9),
            tokens(seed + 50, 3, 5, vocabulary=9),
        ),
        kwargs={"mask": jnp.asarray([1, 1, 1, 0], bool)[None, None, None].repeat(3, axis=0)},
        idle=KEY_BIAS,
    ),
    _case("gru", Gru, (3, 4, 3)),
    _case("bidirectional_rnn", BidirectionalRnn, (3, 4, 3), similar=True),
    _case("general_layers", GeneralLayers, (4, 3, 2)),
    _case("lora", Lora, (4, 5), similar=True),
    _case("scan_vmap_remat", ScannedBlocks, (4, 5)),
    _case("norms", Norms, (4, 5, 5, 2)),
    _case("squeeze_excite", SqueezeExcite, (3, 5, 5, 2)),
    _case("temporal_cnn", TemporalCnn, (3, 5, 4, 4, 1)),
    _case("upsampling_cnn", UpsamplingCnn, (3, 6, 6, 1), similar=True),
    _case(
        "gpt_tied_embedding",
        TiedGpt,
        inputs=lambda seed: (tokens(seed, 3, 6, vocabulary=11),),
        where=["*/kernel", "positions", "*/embedding"],
        tied=("embed/embedding",),
        similar=True,
    ),
    _case("gemma_block", GemmaBlock, (3, 4, 6)),
    _case("mixture_of_experts", MixtureOfExperts, (4, 5)),
    _case("attention_with_cache", DecodingAttention, (3, 1, 8), similar=True),
    _case("lists_and_dicts", ListsAndDicts, (4, 5)),
    _case("shared_layer", SharedLayer, (4, 4), tied=("first/*",)),
]
