"""jaxrec: train one global GRU, thousands of personal copies of it, and ship them to the device they belong to."""

__version__ = "0.1.0"
