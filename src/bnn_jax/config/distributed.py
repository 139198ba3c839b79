"""The section of a config for a run on several hosts."""

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from bnn_jax.config.types import Address, Count, CountOrZero, Section


class Distributed(Section):
    """The processes of a run on several hosts; those that the environment names if all are null."""

    coordinator: Address | None = None  # of process 0
    num_processes: Count | None = None
    process_id: CountOrZero | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Distributed":
        missing = [name for name, value in self if value is None]
        if missing and len(missing) < 3:
            raise ValueError(
                f"distributed.{missing[0]} is missing: set coordinator, num_processes and "
                "process_id, or set distributed to auto"
            )
        if not missing and self.process_id >= self.num_processes:  # type: ignore[operator]
            raise ValueError(
                f"distributed.process_id ({self.process_id}) must be below "
                f"distributed.num_processes ({self.num_processes}): number the processes from 0"
            )
        return self


Processes = Annotated[Distributed, BeforeValidator(lambda given: {} if given == "auto" else given)]
