"""Ordinary linen networks, one for each kind of layer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from zoo_case import Case, filled, normals, tokens


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        for width in (7, 6):
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(3)(x)


class LeNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        for features in (3, 4):
            x = nn.relu(nn.Conv(features, (3, 3), padding="SAME")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape((x.shape[0], -1))
        x = nn.relu(nn.Dense(8)(x))
        return nn.Dense(3)(x)


class ResNetBlock(nn.Module):
    features: int
    strides: int

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        def norm(y: Any) -> Any:
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)

        conv = {"use_bias": False, "padding": "SAME"}
        y = nn.relu(norm(nn.Conv(self.features, (3, 3), strides=self.strides, **conv)(x)))
        y = norm(nn.Conv(self.features, (3, 3), **conv)(y))
        if y.shape != x.shape:
            x = norm(nn.Conv(self.features, (1, 1), strides=self.strides, name="proj", **conv)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Two blocks, as in Flax's ImageNet example; batch statistics in `batch_stats`."""

    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = ResNetBlock(3, 1)(x, train)
        x = ResNetBlock(4, 2)(x, train)
        return nn.Dense(3)(jnp.mean(x, axis=(1, 2)))


class DepthwiseCnn(nn.Module):
    """Depthwise, pointwise, dilated, strided and grouped convolutions."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        channels = x.shape[-1]
        x = nn.Conv(2 * channels, (3, 3), strides=2, feature_group_count=channels)(x)
        x = nn.relu(nn.Conv(4, (1, 1))(x))
        x = nn.relu(nn.Conv(4, (3, 3), kernel_dilation=2, padding="VALID", use_bias=False)(x))
        x = nn.Conv(6, (2, 2), strides=(1, 2), feature_group_count=2)(x)
        return x.mean(axis=(1, 2))


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        down = nn.gelu(nn.Conv(3, (3, 3))(x))
        low = nn.gelu(nn.Conv(4, (3, 3), strides=2)(down))
        up = nn.ConvTranspose(3, (3, 3), strides=(2, 2))(low)
        up = nn.ConvTranspose(3, (3, 3), transpose_kernel=True)(nn.gelu(up))
        return nn.Conv(1, (1, 1))(jnp.concatenate([down, up], axis=-1))


class VisionTransformer(nn.Module):
    """Patch embedding, class token, learned positions, one pre-norm block."""

    @nn.compact
    def __call__(self, images: Any) -> Any:
        x = nn.Conv(8, (4, 4), strides=(4, 4), padding="VALID", name="embedding")(images)
        x = x.reshape((x.shape[0], -1, 8))
        cls = self.param("cls", nn.initializers.normal(0.5), (1, 1, 8))
        x = jnp.concatenate([jnp.tile(cls, (x.shape[0], 1, 1)), x], axis=1)
        x = x + self.param("pos_embedding", nn.initializers.normal(0.5), (1, x.shape[1], 8))
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(y, y)
        y = nn.LayerNorm()(x)
        x = x + nn.Dense(8)(nn.gelu(nn.Dense(12)(y)))
        return nn.Dense(3, name="head")(nn.LayerNorm()(x)[:, 0])


class TiedGpt(nn.Module):
    """A causal language model whose logits use the embedding table again."""

    @nn.compact
    def __call__(self, ids: Any) -> Any:
        embed = nn.Embed(11, 8)
        positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
        x = embed(ids) + nn.Embed(6, 8, name="positions")(positions)
        y = nn.LayerNorm()(x)
        mask = nn.make_causal_mask(ids)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, use_bias=False)(y, mask=mask)
        x = x + nn.Dense(8)(nn.gelu(nn.Dense(12)(nn.LayerNorm()(x))))
        return embed.attend(nn.LayerNorm()(x))


class BidirectionalLstm(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        forward, backward = nn.RNN(nn.OptimizedLSTMCell(5)), nn.RNN(nn.LSTMCell(5))
        x = nn.Bidirectional(forward, backward)(x)
        return nn.Dense(2)(x.mean(axis=1))


class GeneralLayers(nn.Module):
    """DenseGeneral over several axes, and Einsum layers."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.DenseGeneral((3, 4), axis=(1, 2))(x)
        x = nn.DenseGeneral(5, axis=-1)(nn.tanh(x))
        x = nn.Einsum((3, 5, 4), "bhi,hij->bhj", use_bias=True)(x)
        return nn.Einsum((3, 4, 2), "bhi,hio->bo", use_bias=False)(nn.tanh(x))


class LoraDense(nn.Module):
    """A dense layer whose kernel is W + A B."""

    features: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        a = self.param("lora_a", init, (x.shape[-1], 2))
        b = self.param("lora_b", init, (2, self.features))
        return x @ (kernel + a @ b)


class Lora(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return LoraDense(3)(nn.relu(LoraDense(6)(x)))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: Any, _: None) -> tuple[Any, None]:
        return x + nn.Dense(5)(nn.gelu(nn.Dense(7)(nn.LayerNorm()(x)))), None


class ScannedBlocks(nn.Module):
    """Three blocks with stacked weights, recomputed in the backward pass; a remat head."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        scanned = nn.scan(
            nn.remat(Block, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        x, _ = scanned(name="blocks")(x, None)
        return nn.remat(nn.Dense)(2, name="head")(x)


class Norms(nn.Module):
    """All other normalisations of Flax; spectral norm keeps its vectors in `batch_stats`."""

    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = nn.relu(nn.GroupNorm(num_groups=2)(nn.Conv(4, (3, 3))(x)))
        x = nn.relu(nn.InstanceNorm()(nn.Conv(4, (3, 3), use_bias=False)(x)))
        x = nn.RMSNorm()(x.reshape((x.shape[0], -1)))
        x = nn.relu(nn.WeightNorm(nn.Dense(6))(x))
        return nn.SpectralNorm(nn.Dense(3))(x, update_stats=train)


class LocalCnn(nn.Module):
    """Locally connected: a kernel of its own at each position."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.ConvLocal(3, (3, 3), strides=2, padding="VALID")(x))
        return nn.Dense(2)(x.reshape((x.shape[0], -1)))


class DecodingAttention(nn.Module):
    """One step of decoding: keys and values of the past are in `cache`."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.MultiHeadDotProductAttention(num_heads=2, decode=True)(x, x)
        return nn.Dense(4)(x)


class DropoutAndSow(nn.Module):
    """Dropout, a counter in a collection of its own, sown activations, and a dict of outputs."""

    @nn.compact
    def __call__(self, x: Any, *, train: bool = False) -> dict[str, Any]:
        calls = self.variable("counters", "calls", lambda: jnp.zeros((), jnp.int32))
        largest = self.variable("counters", "largest", lambda: jnp.zeros((), jnp.float32))
        x = nn.Dropout(0.3, deterministic=not train)(nn.swish(nn.Dense(12)(x)))
        self.sow("intermediates", "hidden", x)
        if not self.is_initializing():
            calls.value += 1
            largest.value = jnp.maximum(largest.value, jnp.abs(x).max())
        return {"mean": nn.Dense(2, name="mean")(x), "log_std": nn.Dense(2, name="log_std")(x)}


class Expert(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3)(nn.relu(nn.Dense(6)(x)))


class MixtureOfExperts(nn.Module):
    """Three experts with stacked weights, weighted by a gate."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        gate = nn.softmax(nn.Dense(3, name="gate")(x))
        experts = nn.vmap(
            Expert,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=1,
            axis_size=3,
        )
        return jnp.einsum("be,bed->bd", gate, experts(name="experts")(x))


class Siamese(nn.Module):
    """One tower for two inputs."""

    def setup(self) -> None:
        self.tower = nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(3)])
        self.head = nn.Dense(1)

    def __call__(self, pair: Any) -> Any:
        return self.head(self.tower(pair[:, 0]) * self.tower(pair[:, 1]))


def _case(name: str, module: nn.Module, *shapes: tuple[int, ...], **options: Any) -> Case:
    inputs = options.pop("inputs", None) or normals(*shapes)
    first = options.pop("init_inputs", inputs)
    return Case(
        f"linen-{name}",
        lambda: (module, filled(jax.eval_shape(module.init, jax.random.key(1), *first(0)))),
        inputs,
        **options,
    )


KEY_BIAS = ("*/key/bias",)

CASES = [
    _case("mlp", Mlp(), (4, 5), similar=True),
    _case("lenet", LeNet(), (3, 8, 8, 1), similar=True),
    _case("resnet_train", ResNet(), (4, 6, 6, 3), kwargs={"train": True}),
    _case("resnet_eval", ResNet(), (4, 6, 6, 3), kwargs={"train": False}, similar=True),
    _case("depthwise_cnn", DepthwiseCnn(), (3, 9, 9, 2)),
    _case("unet", UNet(), (3, 6, 6, 2)),
    _case("vision_transformer", VisionTransformer(), (3, 8, 8, 1), idle=KEY_BIAS),
    _case(
        "gpt_tied_embedding",
        TiedGpt(),
        inputs=lambda seed: (tokens(seed, 3, 6, vocabulary=11),),
        where=["*/kernel", "*/bias", "*embedding"],
        tied=("Embed_0/embedding",),
    ),
    _case("bidirectional_lstm", BidirectionalLstm(), (3, 4, 3)),
    _case("general_layers", GeneralLayers(), (4, 3, 2), similar=True),
    _case("lora", Lora(), (4, 5)),
    _case("scan_and_remat", ScannedBlocks(), (4, 5)),
    _case("norms", Norms(), (4, 5, 5, 2), kwargs={"train": True}),
    _case("local_cnn", LocalCnn(), (3, 7, 7, 2)),
    _case(
        "attention_with_cache",
        DecodingAttention(),
        (3, 1, 4),
        init_inputs=normals((3, 5, 4)),  # the length of the cache
    ),
    _case(
        "dropout_and_sow",
        DropoutAndSow(),
        (4, 5),
        kwargs={"train": True},
        rngs=("dropout",),
    ),
    _case("mixture_of_experts", MixtureOfExperts(), (4, 5), similar=True),
    _case("siamese", Siamese(), (4, 2, 5), tied=("tower/*",)),
]
