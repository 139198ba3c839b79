"""The model section of a config: a network by name, or one's own."""

from typing import Annotated, get_args

from pydantic import Discriminator, Tag

from bnn_jax.config import own
from bnn_jax.config.sections import MLP, LeNet5


def _network(model: object) -> str:
    """Returns the tag of a model section."""
    for key in ("file", "import"):
        if isinstance(model, dict) and key in model:
            return key
    if isinstance(model, own.FileNetwork | own.ImportedNetwork):
        return "file" if isinstance(model, own.FileNetwork) else "import"
    name = model.get("name") if isinstance(model, dict) else getattr(model, "name", None)
    return str(name) if name in NETWORKS else "other"


NETWORKS = ("lenet5", "mlp", *get_args(own.NamedNetwork.model_fields["name"].annotation))

Model = Annotated[
    Annotated[LeNet5, Tag("lenet5")]
    | Annotated[MLP, Tag("mlp")]
    | Annotated[own.NamedNetwork, Tag("cnn")]
    | Annotated[own.NamedNetwork, Tag("resnet20")]
    | Annotated[own.NamedNetwork, Tag("wide_resnet")]
    | Annotated[own.NamedNetwork, Tag("vit")]
    | Annotated[own.NamedNetwork, Tag("text_transformer")]
    | Annotated[own.NamedNetwork, Tag("lstm")]
    | Annotated[own.FileNetwork, Tag("file")]
    | Annotated[own.ImportedNetwork, Tag("import")],
    Discriminator(_network),
]
