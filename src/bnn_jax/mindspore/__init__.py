"""Conversion of parameters from and to MindSpore's names and layouts, for its checkpoints."""

from bnn_jax.mindspore.layers import load_param_dict as load_param_dict
from bnn_jax.mindspore.layers import save_param_dict as save_param_dict
from bnn_jax.mindspore.layout import flatten_nchw as flatten_nchw
from bnn_jax.mindspore.tree import param_dict_to_tree as param_dict_to_tree
from bnn_jax.mindspore.tree import tree_to_param_dict as tree_to_param_dict
