"""What a piece of work cost: device time, host time, pulses, reads, energy, wear.

Each is counted on its own and never mixed: device seconds come from the device's clock as the
ledger recorded it (chosen delays apart), host seconds from this machine, pulses and reads are
cell by cell, joules are estimates by the ledger (see `rramhil.ledger.tally.Energy`): of the pulses,
of the readings (without the sense amplifiers), and of the conversions of products.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Cost(BaseModel):
    """The price of one step or of one way of repair. All counts are of single cells."""

    model_config = ConfigDict(frozen=True)

    device_seconds: float = Field(0.0, description="device clock, inside calls")
    waiting_seconds: float = Field(0.0, description="device clock, chosen delays such as 1 s")
    host_seconds: float = Field(0.0, description="wall time on this machine")
    pulses: int = Field(0, description="cell pulses: SET, RESET and FORM together")
    sets: int = 0
    resets: int = 0
    forms: int = 0
    unpriced_pulses: int = Field(
        0, description="of the pulses, those that the chip chose: no joules and no wear known"
    )
    reads: int = Field(0, description="cell reads")
    products: int = Field(0, description="input vectors multiplied by a tile in situ")
    high_voltage_volt_seconds: float = Field(0.0, description="wear: sum of V x width")
    joules_estimate: float = Field(0.0, description="pulses only: sum of V^2 x last G x width")
    read_joules_estimate: float = Field(0.0, description="cells at the read voltage, V^2 G time")
    product_joules_estimate: float = Field(
        0.0, description="conversions of in-situ products, at what the device says one takes"
    )
    digital_parameters: int = Field(
        0, description="trained numbers in digital memory, retrained biases included"
    )
    sparse_parameters: int = Field(0, description="entries of the sparse mask")
    sparse_share: float = Field(0.0, description="entries of the mask over weights")
    retrained_biases: int = 0
    column_gains: int = 0
    index_bits: int = Field(0, description="memory that says where the sparse entries are")
    memory_bits: int = Field(0, description="digital memory in all: 32 a number, and the indices")
    memory_writes: int = Field(0, description="numbers written there, each training step counted")
    images: int = Field(
        0, description="images that were learned from, or that gave products their input ranges"
    )
    labels: int = Field(0, description="labels of them that were used")
    validation_images: int = Field(0, description="labelled images that chose the epoch")

    def __add__(self, other: Cost) -> Cost:
        """Both together. Shares are taken from whichever has one."""
        mine, theirs = self.model_dump(), other.model_dump()
        total = {key: mine[key] + theirs[key] for key in mine}
        return Cost(**{**total, "sparse_share": max(self.sparse_share, other.sparse_share)})
