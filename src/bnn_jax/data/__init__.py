"""Image classification data: by name through TensorFlow Datasets (TFDS), or your own arrays.

`load` gives whole data sets as uint8 arrays, prepared once and kept on disk. `from_arrays` makes
the same of arrays you have. `stream` reads in batches what is larger than memory. TensorFlow is not
needed. Importing this package imports neither TFDS nor grain, which are slow to import.
"""

from bnn_jax.data.arrays import DataError as DataError
from bnn_jax.data.arrays import Examples as Examples
from bnn_jax.data.arrays import ImageDataset as ImageDataset
from bnn_jax.data.arrays import from_arrays as from_arrays
from bnn_jax.data.loading import load as load
from bnn_jax.data.names import KNOWN as KNOWN
from bnn_jax.data.names import default_data_dir as default_data_dir
from bnn_jax.data.stream import stream as stream
