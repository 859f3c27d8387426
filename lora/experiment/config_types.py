"""Types of config values: lists without repeats, seeds, hyperparameters, names."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError


def _as_tuple(value: object) -> object:
    return tuple(value) if type(value) is list else value


def _check_unique(values: tuple[str | int, ...]) -> tuple[str | int, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("unique", "each only once")
    return values


def _check_setting(value: object, validate: Callable[[object], object]) -> object:
    """Validate the value of a hyperparameter, with one message for all its types."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError("setting", "a number or text") from None


AS_TUPLE = BeforeValidator(_as_tuple)  # a list of YAML or JSON
UNIQUE = AfterValidator(_check_unique)
IN_SCHEMA = Field(json_schema_extra={"uniqueItems": True})

Axis = Literal["protocol", "task", "weights", "rank", "seed"]
Axes = Annotated[tuple[Axis, ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Names = Annotated[tuple[str, ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Seeds = Annotated[tuple[Seed, ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Setting = Annotated[int | float | str, WrapValidator(_check_setting)]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
MethodName = Literal["lora", "ft", "bitfit", "adapter_houlsby", "adapter_pfeiffer", "adapter_drop"]
