"""A user's own network, from a Python file or an installed module.

    load_network({"file": "nets.py", "name": "MyNet", "args": {"width": 64}})
    load_network({"import": "my_package.nets:MyNet"})

The name is that of a linen or NNX class, or of a function that returns such a module.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from flax import linen, nnx
from jaxtyping import PyTree

from bnn_jax.networks import user_code
from bnn_jax.networks.user_code import PathLike, Result, UserCodeError, UserModule, nearest


@dataclasses.dataclass(frozen=True)
class UserNetwork:
    """A network that was made from a user's code.

    Attributes:
        module: the network.
        user: the module with its code.
        name: of its class or function there.
    """

    module: linen.Module | nnx.Module
    user: UserModule
    name: str

    @property
    def file(self) -> Path | None:
        """The file with its code; None for a module without one."""
        return self.user.file

    @property
    def sha256(self) -> str | None:
        """The SHA-256 checksum of the file, in hexadecimal; None without a file."""
        return self.user.sha256

    def run(self, function: Callable[[], Result]) -> Result:
        """Returns function(), which calls the network, such as `lambda: module.init(key, x)`.

        Raises:
            UserCodeError: it raised an exception; the message names the line of the user's file.
        """
        return user_code.call(self.user, self.name, function)


def load_network(
    spec: Mapping[str, PyTree],
    *,
    folder: PathLike = ".",
    seed: int = 0,
    offered: Mapping[str, PyTree] | None = None,
) -> UserNetwork:
    """Returns the network that a specification names.

    Args:
        spec: {"file": path, "name": class, "args": {...}} or {"import": "package.module:Class",
            "args": {...}}; `args` may be left out. Lists in `args` become tuples.
        folder: where a relative path starts.
        seed: of `nnx.Rngs`, for a class that takes `rngs`.
        offered: further arguments, such as {"num_outputs": 10}. Those that the class takes by name
            are passed, unless `args` has them.

    Raises:
        UserCodeError: the specification is not of this form; the file or the class does not exist;
            the user's code raises an exception; the arguments do not fit; or the result is not a
            linen or NNX module. Nothing is compiled before.
    """
    user, name, args = _read(spec, Path(folder).expanduser())
    known = user_code.defined(user, _is_network_class)
    made = user_code.attribute(user, name, kind="network", known=known)
    if isinstance(made, linen.Module | nnx.Module):
        raise UserCodeError(
            f"{name} of {user.title} is already a network: name its class, or a function that "
            "returns it."
        )
    if not callable(made) or (isinstance(made, type) and not _is_network_class(made)):
        raise UserCodeError(
            f"{name} of {user.title} must be a linen or NNX class, or a function that returns a "
            f"module, got {_describe(made)}" + (f": it has {', '.join(known)}." if known else ".")
        )
    accepted = _accepted(made)
    given = {key: value for key, value in (offered or {}).items() if key in accepted}
    if "rngs" in accepted:
        given["rngs"] = nnx.Rngs(seed)
    given |= _with_tuples(args)
    _check_arguments(user, name, accepted, args, given)
    run = functools.partial(made, **given)
    module = user_code.call(user, name, run)
    if not isinstance(module, linen.Module | nnx.Module):
        raise UserCodeError(
            f"{name} of {user.title} must return a linen or NNX module, got {_describe(module)}."
        )
    return UserNetwork(module, user, name)


_KEYS = ("file", "name", "import", "args")
_FORMS = "{file: nets.py, name: MyNet, args: {...}} or {import: package.module:MyNet, args: {...}}"


def _read(spec: Mapping[str, PyTree], folder: Path) -> tuple[UserModule, str, Mapping[str, PyTree]]:
    """The module, the name in it, and the arguments."""
    unknown = [key for key in spec if key not in _KEYS]
    if unknown:
        raise UserCodeError(
            f"Unknown key {unknown[0]!r} of a network{nearest(str(unknown[0]), _KEYS)} It must be "
            f"{_FORMS}."
        )
    if ("file" in spec) == ("import" in spec) or ("file" in spec) != ("name" in spec):
        raise UserCodeError(f"A network must be {_FORMS}, got the keys {', '.join(spec)}.")
    for key in ("file", "name", "import"):
        if not isinstance(spec.get(key, ""), str | Path):
            raise UserCodeError(f"{key!r} of a network must be text, got {spec[key]!r}.")
    args = {} if spec.get("args") is None else spec["args"]
    if not isinstance(args, Mapping) or not all(isinstance(key, str) for key in args):
        raise UserCodeError(f"'args' of a network must be a mapping of names, got {args!r}.")
    if "file" in spec:
        return user_code.import_file(folder / Path(spec["file"]).expanduser()), spec["name"], args
    module, colon, name = str(spec["import"]).partition(":")
    if not colon or not name.isidentifier():
        raise UserCodeError(f"'import' must be package.module:MyNet, got {spec['import']!r}.")
    return user_code.import_module(module), name, args


def _is_network_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, linen.Module | nnx.Module)


def _accepted(made: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """The arguments of a class or function by name; a linen module's `parent` and `name` aside."""
    hidden: Collection[str] = ()
    if isinstance(made, type):  # the metaclass of NNX modules hides the arguments of __init__
        parameters = dict(inspect.signature(made.__init__).parameters)  # type: ignore[misc]
        del parameters[next(iter(parameters))]
        hidden = ("parent", "name") if issubclass(made, linen.Module) else ()
    else:
        parameters = dict(inspect.signature(made).parameters)
    return {
        key: parameter
        for key, parameter in parameters.items()
        if key not in hidden and parameter.kind is not parameter.POSITIONAL_ONLY
    }


def _check_arguments(
    user: UserModule,
    name: str,
    accepted: Mapping[str, inspect.Parameter],
    args: Mapping[str, PyTree],
    given: Mapping[str, PyTree],
) -> None:
    """Refuses an argument that the class does not take, and the absence of one that it needs."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    fixed = {key: p for key, p in accepted.items() if p.kind not in variadic}
    named = [key for key in fixed if key != "rngs"]
    listed = f"It takes {', '.join(named)}" if named else "It takes none"
    if len(fixed) == len(accepted):
        for key in args:
            if key not in named:
                raise UserCodeError(
                    f"{name} of {user.title} has no argument {key!r}{nearest(key, named)} {listed}."
                )
    for key, parameter in fixed.items():
        if parameter.default is parameter.empty and key not in given:
            raise UserCodeError(
                f"{name} of {user.title} needs the argument {key!r}: add it to 'args'. {listed}."
            )


def _with_tuples(value: PyTree) -> PyTree:
    """Lists as tuples, since the fields of a linen module must be hashable."""
    if isinstance(value, list | tuple):
        return tuple(_with_tuples(v) for v in value)
    if isinstance(value, Mapping):
        return {key: _with_tuples(v) for key, v in value.items()}
    return value


def _describe(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"
