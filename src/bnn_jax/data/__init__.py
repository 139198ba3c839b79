"""Data: images by name through TensorFlow Datasets (TFDS), your own arrays, curves.

`load` gives whole image data sets as uint8 arrays, prepared once and kept on disk. `from_arrays`
makes the same of arrays you have. `stream` reads in batches what is larger than memory. `CURVES`
are for regression, and their noise is known. TensorFlow is not needed. Importing this package
imports neither TFDS nor grain, which are slow to import.
"""

from bnn_jax.data.arrays import DataError as DataError
from bnn_jax.data.arrays import Examples as Examples
from bnn_jax.data.arrays import ImageDataset as ImageDataset
from bnn_jax.data.arrays import from_arrays as from_arrays
from bnn_jax.data.curves import CURVES as CURVES
from bnn_jax.data.curves import Curve as Curve
from bnn_jax.data.loading import load as load
from bnn_jax.data.names import KNOWN as KNOWN
from bnn_jax.data.names import default_data_dir as default_data_dir
from bnn_jax.data.stream import stream as stream
