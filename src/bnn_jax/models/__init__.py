"""Deterministic Flax networks for examples, configs and benchmarks, also by name (`NETWORKS`)."""

from bnn_jax.models.banded_conv import banded_conv as banded_conv
from bnn_jax.models.cnn import CNN as CNN
from bnn_jax.models.names import NETWORKS as NETWORKS
from bnn_jax.models.names import NetworkError as NetworkError
from bnn_jax.models.names import arguments as arguments
from bnn_jax.models.names import build as build
from bnn_jax.models.networks import MLP as MLP
from bnn_jax.models.networks import LeNet5 as LeNet5
from bnn_jax.models.resnet import ResNet20 as ResNet20
from bnn_jax.models.stored_conv import stored_conv as stored_conv
from bnn_jax.models.text import LSTM as LSTM
from bnn_jax.models.text import TextTransformer as TextTransformer
from bnn_jax.models.vit import ViT as ViT
from bnn_jax.models.wide_resnet import WideResNet as WideResNet
