"""Python files of the user's own: imports one under a name of its own and finds names in it.

A file is imported as a module whose name holds a hash of its path and content. So files of equal
names do not collide, a file that has not changed is imported once, and its classes and functions
can be pickled. While it runs, files next to it can be imported.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

PathLike = str | os.PathLike[str]
Result = TypeVar("Result")


class UserCodeError(ValueError):
    """A user's Python file cannot be used; the message says where and why, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@dataclasses.dataclass(frozen=True)
class UserModule:
    """A module of the user's.

    Attributes:
        module: the imported module.
        file: the file that it was read from; None for a module without one.
        sha256: the SHA-256 checksum of the file's content, in hexadecimal; None without a file.
            Files that it imports are not included.
    """

    module: types.ModuleType
    file: Path | None
    sha256: str | None

    @property
    def title(self) -> str:
        """How messages name the module: the file's path, or else the module's name."""
        return self.module.__name__ if self.file is None else str(self.file)


def import_file(file: PathLike) -> UserModule:
    """Imports a Python file.

    Raises:
        UserCodeError: the file does not exist or is not Python, or its code raises an exception;
            the message names the file and the line.
    """
    path = Path(file).expanduser()
    if path.suffix != ".py":
        raise UserCodeError(f"{path} is not a Python file: its name must end in .py.")
    if not path.is_file():
        raise UserCodeError(f"{path} does not exist{_near_file(path)}")
    path = path.resolve()
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    own = hashlib.sha256(str(path).encode() + content).hexdigest()[:16]
    name = f"bnn_jax_user_{path.stem}_{own}".replace(".", "_").replace("-", "_")
    if name not in sys.modules:
        _execute(name, path, content)
    return UserModule(sys.modules[name], path, checksum)


def import_module(name: str) -> UserModule:
    """Imports an installed module by its dotted name.

    Raises:
        UserCodeError: there is no such module, or importing it raises an exception.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserCodeError(f"A module must be named as in package.module, got {name!r}.")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise UserCodeError(
                f"There is no module {error.name!r}, for {name!r}: install it, put its folder on "
                "PYTHONPATH, or name a file instead."
            ) from error
        raise UserCodeError(f"{name} cannot be imported: {described(error)}.") from error
    except Exception as error:
        raise UserCodeError(f"{name} cannot be imported: {described(error)}.") from error
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return UserModule(module, None, None)
    return UserModule(module, Path(file), hashlib.sha256(Path(file).read_bytes()).hexdigest())


def attribute(user: UserModule, name: str, *, kind: str, known: Iterable[str]) -> object:
    """Returns an object of a user's module by name.

    Args:
        user: the module.
        name: the object's name.
        kind: what the name stands for in messages, such as "network".
        known: the names to offer if this one does not exist.

    Raises:
        UserCodeError: the module has no such name.
    """
    if not hasattr(user.module, name):
        known = list(known)
        listed = f"It has {', '.join(known)}" if known else f"It defines no {kind}"
        raise UserCodeError(f"{user.title} has no {kind} {name!r}{nearest(name, known)} {listed}.")
    return getattr(user.module, name)


def defined(user: UserModule, chosen: Callable[[object], bool]) -> list[str]:
    """Returns the public names that the module itself defines, of objects that are chosen."""
    return [
        name
        for name, value in vars(user.module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == user.module.__name__
        and chosen(value)
    ]


def call(user: UserModule, name: str, run: Callable[[], Result]) -> Result:
    """Returns run(), which calls the user's code.

    Raises:
        UserCodeError: it raised an exception; the message names the file and the line.
    """
    try:
        return run()
    except Exception as error:
        place = _place(error, user.file) or f"{user.title}: "
        raise UserCodeError(f"{place}{described(error)}, in a call of {name}.") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `, did you mean 'x'?`, or a full stop if no known word is similar."""
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(lower), n=1)
    return f", did you mean {lower[found[0]]!r}?" if found else "."


def described(error: BaseException) -> str:
    """Returns the type and the message of an exception, in one line without a final full stop."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text if len(text) <= 300 else text[:297] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _execute(name: str, path: Path, content: bytes) -> None:
    """Runs the file's code in a new module and registers it, unless it fails."""
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look for a class's module there
    try:
        with _importable(path.parent):
            exec(compile(content, str(path), "exec"), module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError) and error.filename:
            raise UserCodeError(
                f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}."
            ) from error
        if not isinstance(error, Exception | SystemExit):
            raise
        place = _place(error, path) or f"{path}: "
        raise UserCodeError(f"{place}{described(error)}.") from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder at the end of sys.path, so that it hides no installed package."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _place(error: BaseException, file: Path | None) -> str:
    """The last line of the file that an exception passed through, as `file, line 3: `."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    return f"{file}, line {lines[-1]}: " if lines else ""


def _near_file(path: Path) -> str:
    """A hint at a Python file of a similar name in the same folder."""
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}."
    return nearest(path.name, [other.name for other in sorted(path.parent.glob("*.py"))])
