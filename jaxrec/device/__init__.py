"""From JAX functions to one TFLite file, the runtime that a device needs, and its measurement."""

from jaxrec.device.runtime import DeviceModel

__all__ = ["DeviceModel"]
