"""Seeded mutations of configs, overrides and paths: `mutation(number)` is always the same."""

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

import yaml

BBB = {
    "estimator": "reparam",
    "objective": {
        "num_data": "train",
        "kl_schedule": {"name": "linear", "warmup_share": 0.5},
        "num_samples": 1,
        "antithetic": False,
        "kl_every": 1,
    },
    "optimizer": {"name": "adam", "learning_rate": 0.01, "schedule": "cosine"},
}
DIGITS = {"name": "digits", "train_examples": 64, "test_examples": 32, "validation": 0}
COMMON = {
    "prior": {"name": "normal", "mean": 0.0, "std": 0.3},
    "training": {"epochs": 2, "batch_size": 16, "evaluate_every": 1, "checkpoint_every": 1},
    "evaluation": {"num_samples": 4, "batch_size": 100},
    "output": {"dir": "run"},
}
CLASSES = {"model": {"name": "mlp", "hidden": [4]}, "evaluation": {"ece_bins": 15}}
BASES: list[dict[str, Any]] = [
    {**COMMON, **BBB, **CLASSES, "data": DIGITS, "posterior": {"rho_mean": -3.0, "where": "all"}},
    {
        **COMMON,
        "data": {**DIGITS, "image_size": 8, "padding": 4, "mean": 0.1, "std": 0.3},
        "model": {"name": "cnn", "args": {"channels": [2], "hidden": [3], "dropout": 0.1}},
        "inference": {"name": "map", "learning_rate": 0.01},
    },
    {
        **COMMON,
        **BBB,
        "data": {"name": "blundell_curve", "train_examples": 50, "test_examples": 20},
        "model": {"name": "mlp", "hidden": [4, 3]},
        "likelihood": {"name": "normal", "std": 0.1},
        "prior": {"name": "scale_mixture", "pi": 0.5, "std1": 1.0, "std2": 0.1},
    },
    {
        **COMMON,
        "data": {"format": "table", "path": "house.csv", "targets": "price", "task": "regression"},
        "model": {"name": "mlp", "hidden": [4]},
        "likelihood": {"name": "student_t", "df": 4.0, "scale": 0.5},
        "inference": {"name": "swag", "learning_rate": 0.01, "rank": 4},
        "training": {"epochs": 4, "batch_size": 8},
    },
]
METHODS = [
    {"name": "ivon", "num_samples": 1, "accumulate": 1, "hess_init": 0.5},
    {"name": "sgld", "num_samples": 4, "cycles": 1, "step_size": 0.01},
    {"name": "sghmc", "num_samples": 4, "friction": 0.1},
    {"name": "nuts", "warmup": 20, "chains": 1, "max_doublings": 3},
    {"name": "hmc", "warmup": 20, "chains": 2, "leapfrogs": 4},
    {"name": "laplace", "curvature": "kronecker", "learning_rate": 0.01},
    {"name": "mc_dropout", "rate": 0.1},
    {"name": "bayes_by_backprop", "kl_warmup": 0.5, "num_samples": 2},
    {"name": "ensemble", "size": 2, "method": {"name": "map", "learning_rate": 0.01}},
]
ROWS = [
    "size,rooms,city,price",
    *(f"{20 + i}.5,{i % 4},{i % 2},{1000 + 9 * i}.5" for i in range(40)),
]

NUMBERS = (
    *("1e12", "1e18", "1e40", "1e300", "-1", "-1e300", "0", "0.5", "-0.0", "1e-320", "1e-45"),
    *(".nan", "nan", ".inf", "-.inf", "inf", "9" * 30, "9" * 400, "9" * 5000, "1e999", "1_000"),
    *("0x10", "1000000000", "2147483648", "100000", "10000", "4294967296", "1e9", "3e9", "+1"),
)
VALUES = (
    *("true", "null", "~", "[]", "{}", "[1, 2]", "[[1]]", "{a: 1}", "''", "' '", "text", "[null]"),
    *("{name: normal}", "[true]", "2026-01-31", "12:30:45", "!!binary aGk=", "0o17", "<<", "*"),
    *("'=: '", "'1'", '"\\t"', "[a, [b, [c]]]", "{1: 2}", "{null: 1}", "{[1]: 2}", "? a", "- - a"),
)
TAGGED = (
    *("!!bool maybe", '!!int ""', '!!float ""', "!!timestamp x", "!!map [a]", "!!seq {a: 1}"),
    *(
        "!!set {a, b}",
        "!!omap [a]",
        "!!pairs [a: 1, a: 2]",
        "!!binary '!'",
        "!!null x",
        "!!str [1]",
    ),
    *(
        "!!python/object/apply:os.getcwd []",
        "!local 1",
        "! 1",
        "!<tag:x> 1",
        "!!int 0b2",
        "!!merge x",
    ),
)
PATHS = (
    *(
        "~nosuchuser/x",
        "x" * 300,
        "/".join(["x" * 200] * 30),
        "/proc/x/y",
        "/dev/null",
        "/dev/zero",
    ),
    *("/proc/self/mem", '"a\\0b"', '"\\e[31m"', '"a\\nb"', '"a\\ud800b"', "house.csv/x", "..", "."),
    *(
        "''",
        "/",
        "''''",
        "a/../../a",
        "nö/ñ",
        "x" * 255,
        "house.csv",
        "~",
        "/sys/x",
        "\\",
        "run/run",
    ),
)
CHARACTERS = ("\x00", "\x07", "\x1b[2J", "\x7f", "\x85", "\u2028", "\ufeff", "\r", "\t", "\ud800")


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A config file, overrides and further arguments."""

    kind: str
    text: bytes
    arguments: tuple[str, ...]


def keys_of(config: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")


def put(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {**config, first: put(config.get(first, {}), rest, value) if rest else value}


def base(rng: random.Random) -> dict[str, Any]:
    config = rng.choice(BASES)
    if "inference" in config and rng.random() < 0.6:
        config = {**config, "inference": rng.choice(METHODS)}
    return config


def dumped(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, default_flow_style=None)


HOLE = "HOLE"


def _in_place(rng: random.Random, choices: tuple[str, ...], leaves: bool = True) -> Mutation:
    """One value of the config is replaced, in the file or by an override."""
    config = base(rng)
    keys = [k for k in keys_of(config) if not leaves or not isinstance(_get(config, k), dict)]
    key, value = rng.choice(keys), rng.choice(choices)
    if rng.random() < 0.5 and not any(c in value for c in "\x00"):
        return Mutation("", dumped(config).encode(), (f"{key}={value}",))
    text = dumped(put(config, key, HOLE)).replace(HOLE, value)
    return Mutation("", text.encode(errors="surrogatepass"), ())


def _get(config: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _numbers(rng: random.Random) -> Mutation:
    config = base(rng)
    keys = [k for k in keys_of(config) if isinstance(_get(config, k), int | float | list)]
    key, value = rng.choice(keys), rng.choice(NUMBERS)
    if isinstance(_get(config, key), list):
        value = f"[{value}]" if rng.random() < 0.5 else f"[3, {value}, 2]"
    return Mutation("", dumped(config).encode(), (f"{key}={value}",))


def _aliases(rng: random.Random) -> Mutation:
    width, depth = rng.randint(2, 12), rng.randint(1, 12)
    lines = ["a0: &a0 [x, y]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    bombs = [*lines, "a: &a [*a]", "a: &a {b: *a}", "a: *nothing", "a: &a 1\nb: *a"]
    text = dumped(base(rng))
    if rng.random() < 0.5:
        return Mutation("", ("\n".join(lines) + "\n" + text).encode(), ())
    return Mutation("", (text + rng.choice(bombs)).encode(), ())


def _nested(rng: random.Random) -> Mutation:
    depth = rng.choice([5, 30, 1000, 20_000])
    left, right = rng.choice([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("&a [", "]")])
    value = left * depth + "1" + right * rng.choice([0, depth])
    config = base(rng)
    key = rng.choice(list(keys_of(config)))
    if rng.random() < 0.5:
        return Mutation("", dumped(config).encode(), (f"{key}={value}",))
    return Mutation("", f"{dumped(config)}\nx: {value}\n".encode(), ())


def _long(rng: random.Random) -> Mutation:
    length = rng.choice([300, 5000, 120_000, 2_000_000])
    config, letter = base(rng), rng.choice("x7é ")
    key = rng.choice(list(keys_of(config)))
    word = letter * length
    made = rng.randrange(4)
    if made == 0:
        return Mutation("", dumped(config).encode(), (f"{key}={word}",))
    if made == 1:
        return Mutation("", dumped(config).encode(), (f"{key}.{word}=1",))
    text = dumped(put(config, key, HOLE)) if made == 2 else dumped(config) + f"\n{HOLE}: 1"
    return Mutation("", text.replace(HOLE, f"'{word}'").encode(), ())


def _unknown(rng: random.Random) -> Mutation:
    config, count = base(rng), rng.choice([1, 20, 3000, 20_000])
    section = rng.choice([*config, ""])
    names = {f"{rng.choice(['key', 'num_sample', 'std'])}{i}": i for i in range(count)}
    if section and isinstance(config[section], dict):
        config = {**config, section: {**config[section], **names}}
    else:
        config = {**config, **names}
    return Mutation("", dumped(config).encode(), ())


def _lines(rng: random.Random) -> Mutation:
    """Lines are removed, repeated, swapped or indented."""
    lines = yaml.safe_dump(base(rng), sort_keys=False, default_flow_style=False).splitlines()
    for _ in range(rng.randint(1, 3)):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        made = rng.randrange(5)
        if made == 0 and len(lines) > 1:
            del lines[i]
        elif made == 1:
            lines.insert(j, lines[i])
        elif made == 2:
            lines[i], lines[j] = lines[j], lines[i]
        elif made == 3:
            lines[i] = " " * rng.randint(1, 5) + lines[i]
        else:
            lines[i] = lines[i].lstrip()
    return Mutation("", "\n".join(lines).encode(), ())


def _bytes(rng: random.Random) -> Mutation:
    """Bytes are changed, inserted, or cut off."""
    data = bytearray(dumped(base(rng)).encode())
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data))
        made = rng.randrange(3)
        if made == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif made == 1:
            data[place:place] = rng.choice(
                [*CHARACTERS, "&", "*", "!", "|", ">", "%", "@", "`"]
            ).encode(errors="surrogatepass")
        else:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) :]
    return Mutation("", bytes(data), ())


def _paths(rng: random.Random) -> Mutation:
    config, value = base(rng), rng.choice(PATHS)
    made = rng.randrange(6)
    text = dumped(config).encode()
    if made == 0:
        return Mutation("", text, (f"output.dir={value}",))
    key = ["data.path", "data.data_dir", "data.manual_dir"][made % 3]
    if made < 4:
        return Mutation("", text, (f"{key}={value}",))
    data = [
        f"data={{format: python, file: {value}, name: load}}",
        f"data={{format: npz, path: {value}}}",
        f"data={{format: image_folder, path: {value}}}",
        f"data={{format: uci, name: boston, folder: {value}}}",
        f"model={{file: {value}, name: Net}}",
        f"model={{import: {value}}}",
    ]
    return Mutation("", text, (rng.choice(data),))


def _forms(rng: random.Random) -> Mutation:
    """Overrides of other forms."""
    config = base(rng)
    key = rng.choice(list(keys_of(config)))
    form = rng.choice(
        [
            *("=1", key, f"{key}=", f".{key}=1", f"{key}.=1", f" {key}=1", f"{key}.x=1", "==", "."),
            *(f"{key}==1", f"{key}=1=2", f"{key.upper()}=1", f"{key}=[1", f"{key}=a: b", "--x=1"),
            *(f"{key}=null", f"{key.partition('.')[0]}=null", f"{key}='", "-", "", " = ", "-h=1"),
            f"{key.replace('.', '..')}=1",
        ]
    )
    return Mutation("", dumped(config).encode(), (form, *rng.choices([form, "seed=1"], k=1)))


def _resumed(rng: random.Random) -> Mutation:
    found = _numbers(rng) if rng.random() < 0.5 else _in_place(rng, (*VALUES, *TAGGED, *PATHS))
    more = rng.choice(
        [
            (),
            ("estimator={'*': flipout}",),
            ("inference={name: map}",),
            ("prior=null",),
            ("seeds=[1]",),
        ]
    )
    folder = rng.choice([(), ("output.dir=old",), ("output.dir=old",)])
    return Mutation("", found.text, (*found.arguments, *folder, *more, "--resume"))


KINDS: dict[str, Callable[[random.Random], Mutation]] = {
    "tags": lambda rng: _in_place(rng, TAGGED, leaves=False),
    "values": lambda rng: _in_place(rng, VALUES, leaves=False),
    "numbers": _numbers,
    "more numbers": _numbers,
    "aliases": _aliases,
    "nesting": _nested,
    "characters": lambda rng: _in_place(
        rng, tuple(f'"a{c}b"' for c in CHARACTERS) + tuple(f"{c}" for c in CHARACTERS)
    ),
    "long": _long,
    "unknown keys": _unknown,
    "lines": _lines,
    "bytes": _bytes,
    "paths": _paths,
    "forms": _forms,
    "resumed": _resumed,
}


def mutation(number: int) -> Mutation:
    """Returns mutation `number`, always the same; the kinds take turns."""
    kind = list(KINDS)[number % len(KINDS)]
    return dataclasses.replace(KINDS[kind](random.Random(number)), kind=kind)


def unchanged() -> Mutation:
    """Returns a config without a mutation."""
    return Mutation("unchanged", dumped(BASES[0]).encode(), ())
