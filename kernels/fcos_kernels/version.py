"""The package's version, that of both distributions which carry it."""

__version__ = "0.1.0"
