"""Settings under the names of earlier versions, which folders of older runs have."""

RENAMED = {
    ("evaluation", "deterministic_twin"): "deterministic_baseline",
    ("evaluation", "twin_epochs"): "baseline_epochs",
}
"""(section, former name) -> current name of a setting."""


def rename(raw: dict[str, object]) -> None:
    """Replaces the former names of settings by the current ones, in place."""
    for (section, former), name in RENAMED.items():
        values = raw.get(section)
        if isinstance(values, dict) and former in values:
            values.setdefault(name, values.pop(former))
