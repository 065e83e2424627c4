"""The toolkit's version, as weights and run folders record it."""

__version__ = "0.1.0"
