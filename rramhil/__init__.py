"""rramhil: calibrate a real RRAM array until the network that lives in it works.

    import rramhil

    with rramhil.connect("emulator:40nm?die=7") as device:
        siemens = device.read(device.spec.cells(0, range(16), 3))

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rramhil.device import Device as Device
    from rramhil.device import DeviceError as DeviceError
    from rramhil.device import Driver as Driver
    from rramhil.device import Kind as Kind
    from rramhil.device import LinkLost as LinkLost
    from rramhil.device import Pulse as Pulse
    from rramhil.device import Refused as Refused
    from rramhil.device import Spec as Spec
    from rramhil.station import connect as connect

_HOMES = {
    "Device": "rramhil.device",
    "DeviceError": "rramhil.device",
    "Driver": "rramhil.device",
    "Kind": "rramhil.device",
    "LinkLost": "rramhil.device",
    "Pulse": "rramhil.device",
    "Refused": "rramhil.device",
    "Spec": "rramhil.device",
    "connect": "rramhil.station",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rramhil' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
