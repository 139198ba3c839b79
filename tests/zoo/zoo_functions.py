"""Networks written with plain jnp: apply(params, *inputs)."""

from typing import Any

import jax
import jax.numpy as jnp
from zoo_case import Case, normal, normals


def _weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: 0.5 * normal(i, *shape) for i, (name, shape) in enumerate(shapes.items())}


def graph_network(params: Any, nodes: Any, senders: Any, receivers: Any) -> Any:
    """Messages along edges, summed at their receivers; axis 0 is of nodes, or of edges."""
    count = nodes.shape[0]
    for layer in params["layers"]:
        messages = jax.nn.relu(nodes[senders] @ layer["message"])
        received = jax.ops.segment_sum(messages, receivers, num_segments=count)
        nodes = jnp.tanh(nodes @ layer["self"] + received + layer["offset"][None])
    return nodes @ params["readout"]


def graph_convolution(params: Any, nodes: Any, *, adjacency: Any) -> Any:
    """A batch of graphs with dense adjacency matrices."""
    hidden = jax.nn.relu(jnp.einsum("bij,bjf,fg->big", adjacency, nodes, params["w1"]))
    hidden = jnp.einsum("bij,bjf->bif", adjacency, hidden @ params["w2"])
    return hidden.sum(axis=1)


def deep_sets(params: Any, batch: dict[str, Any]) -> Any:
    """Sums over sets of different sizes; one input, a dict with the elements and their mask."""
    x = jnp.tanh(batch["elements"] @ params["embed"] + params["b"][None, None])
    pooled = jnp.sum(x * batch["mask"][..., None], axis=1)
    return {"logits": pooled @ params["head"] + params["head_b"][None]}


def hypernetwork_bilinear(params: Any, left: Any, right: Any, *, scale: float = 1.0) -> Any:
    """A kernel that is a product of params, then a bilinear form."""
    kernel = (params["code"] @ params["generator"]).reshape(4, 3)
    hidden = jnp.tanh(left @ kernel)
    return scale * jnp.einsum("bi,ijk,bj->bk", hidden, params["bilinear"], right)


def attention_per_example(params: Any, x: Any) -> Any:
    """A function of one example, mapped over the batch; one head of attention."""

    def one(tokens: Any) -> Any:
        q, k, v = (tokens @ params["qkv"][i] for i in range(3))
        return jax.nn.softmax(q @ k.T * 0.5) @ v @ params["out"]

    return jax.vmap(one)(x)


def _graph_params() -> Any:
    shapes = {"message": (4, 4), "self": (4, 4), "offset": (4,)}
    return {"layers": [_weights(shapes), _weights(shapes)], "readout": normal(9, 4, 2)}


def _edges(seed: int) -> tuple[Any, ...]:
    ring = jnp.arange(6, dtype=jnp.int32)
    return normal(seed, 6, 4), ring, jnp.roll(ring, 1 + seed)


def _sets(seed: int) -> tuple[Any, ...]:
    sizes = jnp.asarray([2, 4, 3], jnp.int32)
    mask = (jnp.arange(4, dtype=jnp.int32)[None] < sizes[:, None]).astype(jnp.float32)
    return ({"elements": normal(seed, 3, 4, 3), "mask": mask},)


CASES = [
    Case("function-graph_segment_sum", lambda: (graph_network, _graph_params()), _edges),
    Case(
        "function-graph_convolution",
        lambda: (graph_convolution, _weights({"w1": (4, 5), "w2": (5, 2)})),
        normals((3, 4, 4)),
        kwargs={"adjacency": jnp.abs(normal(5, 3, 4, 4))},
    ),
    Case(
        "function-deep_sets",
        lambda: (
            deep_sets,
            _weights({"embed": (3, 5), "b": (5,), "head": (5, 2), "head_b": (2,)}),
        ),
        _sets,
    ),
    Case(
        "function-hypernetwork_bilinear",
        lambda: (
            hypernetwork_bilinear,
            _weights({"code": (1, 3), "generator": (3, 12), "bilinear": (3, 5, 2)}),
        ),
        normals((4, 4), (4, 5)),
        kwargs={"scale": 0.5},
    ),
    Case(
        "function-attention_per_example",
        lambda: (attention_per_example, _weights({"qkv": (3, 4, 4), "out": (4, 2)})),
        normals((3, 5, 4)),
    ),
]
