"""`fcos_kernels.loss.box` under its public name: the box losses alone."""

from fcos_kernels.loss.box import KINDS, BoxTerms, box_loss, box_terms

__all__ = ["KINDS", "BoxTerms", "box_loss", "box_terms"]
