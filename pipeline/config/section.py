"""What every section of the settings shares."""

from pydantic import BaseModel, ConfigDict

KIB = 1024
MIB = 1024 * KIB


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, defaults checked like given values."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
