"""Data sets: images by name through TensorFlow Datasets (TFDS), own files and arrays, and curves.

`load` returns a whole image data set as uint8 arrays, prepared once and cached on disk.
`from_arrays` makes a data set from arrays; `read_npz`, `read_table`, `read_image_folder` and
`read_python` read own files, and `read_huggingface` the data sets of Hugging Face `datasets`.
`stream` reads batches of data that is larger than memory. `CURVES` are regression data with known
noise.

TensorFlow is not needed. Importing this package imports neither TFDS nor grain, which are slow to
import.
"""

from bnn_jax.data.arrays import Examples as Examples
from bnn_jax.data.arrays import ImageDataset as ImageDataset
from bnn_jax.data.arrays import from_arrays as from_arrays
from bnn_jax.data.augment import pad_crop_flip as pad_crop_flip
from bnn_jax.data.curves import CURVES as CURVES
from bnn_jax.data.curves import Curve as Curve
from bnn_jax.data.dataset import Dataset as Dataset
from bnn_jax.data.dataset import Splits as Splits
from bnn_jax.data.errors import DataError as DataError
from bnn_jax.data.huggingface import read_huggingface as read_huggingface
from bnn_jax.data.image_folder import read_image_folder as read_image_folder
from bnn_jax.data.image_folder import read_new_images as read_new_images
from bnn_jax.data.loading import load as load
from bnn_jax.data.names import KNOWN as KNOWN
from bnn_jax.data.names import default_data_dir as default_data_dir
from bnn_jax.data.npz import read_new_npz as read_new_npz
from bnn_jax.data.npz import read_npz as read_npz
from bnn_jax.data.python_file import read_python as read_python
from bnn_jax.data.scaling import InputScaling as InputScaling
from bnn_jax.data.scaling import standardize_inputs as standardize_inputs
from bnn_jax.data.split import split as split
from bnn_jax.data.stream import stream as stream
from bnn_jax.data.table_encoder import TableEncoder as TableEncoder
from bnn_jax.data.tables import read_new_table as read_new_table
from bnn_jax.data.tables import read_table as read_table
from bnn_jax.data.uci import uci as uci
