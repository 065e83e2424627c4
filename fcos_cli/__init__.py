"""FCOS toolkit: train, evaluate, understand and run fully convolutional one-stage detectors (arXiv 1904.01355)."""

__version__ = "0.1.0"
