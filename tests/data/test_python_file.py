"""Data sets from a user's function: what is read, and one clear line for each mistake."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_jax.data import DataError, read_python
from bnn_jax.networks.user_code import UserCodeError

X, Y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 1, 0])
HEAD = """
import numpy as np
x, y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 1, 0])

class Source:
    def __init__(self, keys=None, wrong=None):
        self.keys, self.wrong = keys, wrong
    def __len__(self):
        return 4
    def __getitem__(self, index):
        pair = (x[index], y[index]) if index != self.wrong else (x[0, :1], y[index])
        return pair if self.keys is None else dict(zip(self.keys, pair))

def load(length=4):
    return """

FORMS = {
    "pair": "x, y",
    "list": "[x.tolist(), y.tolist()]",
    "jax": "__import__('jax').numpy.asarray(x), y",
    "part": "{'train': (x, y)}",
    "source": "Source()",
    "mapping": "Source(('image', 'label'))",
    "grain": "__import__('grain').MapDataset.source(Source())",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, tmp_path: Path) -> None:
    file = tmp_path / "data.py"
    file.write_text(HEAD + FORMS[form])
    data = read_python(file).train
    np.testing.assert_array_equal(data.inputs, X.astype(np.float32))
    np.testing.assert_array_equal(data.targets, Y)
    assert (data.task, data.inputs.dtype, data.targets.dtype) == (
        "classification", np.float32, np.int32,
    )  # fmt: skip


def test_parts_arguments_and_a_random_split(tmp_path: Path) -> None:
    file = tmp_path / "data.py"
    file.write_text(HEAD + "{'train': (x[:length], y[:length]), 'val': Source(), 'test': None}")
    splits = read_python(file, args={"length": 3}, test=1, task="regression")
    assert splits.validation is not None
    assert splits.test is not None
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [2, 4, 1]
    assert splits.train.task == "regression"


# What load returns; the options; the message.
BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "nothing": ("None", {}, r"data.py, load\(\) returned NoneType: it must return \(x, y\)"),
    "one array": ("x", {}, "returned ndarray: it must return"),
    "three": ("(x, y, y)", {}, "returned 3 values"),
    "unknown part": ("{'train': (x, y), 'tets': (x, y)}", {}, "key 'tets', did you mean 'test'"),
    "no train": ("{'test': (x, y)}", {}, "returned no part 'train', only test"),
    "twice": ("{'val': (x, y), 'valid': (x, y)}", {}, "key 'valid'"),
    "ragged": ("([[1, 2], [3]], y)", {}, "inputs cannot become an array"),
    "objects": ("([None, 'a', 1, 2], y)", {}, "inputs must be an array of numbers or text"),
    "lengths": ("(x[:3], y)", {}, r"load\(\), inputs and targets must have the same"),
    "nan": ("(x * np.nan, y)", {}, "example 0, inputs.*finite.*got nan"),
    "negative label": ("{'train': (x, y - 1)}", {}, r"\['train'\], example 0, targets.*got -1"),
    "uneven source": ("Source(wrong=2)", {}, r"element 2 has shapes \(1,\).*element 0 has \(2,\)"),
    "keys": ("Source(('a', 'b'))", {}, r"load\(\)\[0\] must be \(input, target\)"),
    "empty source": ("{}.keys()", {}, "returned dict_keys"),
    "too large": ("Source()", {"max_bytes": 50}, "4 elements of 24 bytes, more than max_bytes=50"),
    "raises": ("1 / 0", {}, "data.py, line 15: ZeroDivisionError: .* in a call of load"),
    "no function": ("x, y", {"name": "laod"}, "no function 'laod'.*'load'. It has load"),
    "no callable": ("x, y", {"name": "x"}, "x of .* must be a function, got ndarray"),
    "argument": ("x, y", {"args": {"size": 3}}, "TypeError: .*'size'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_data_is_one_line(case: str, tmp_path: Path) -> None:
    returned, options, expected = BROKEN[case]
    file = tmp_path / "data.py"
    file.write_text(HEAD + returned)
    with pytest.raises((DataError, UserCodeError)) as caught:
        read_python(file, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert re.search(expected, message), message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="does not exist"):
        read_python(tmp_path / "data.py")
