"""How fast the ops are on this machine: `python -m fcos_kernels.bench [OP ...] [--device cuda|cpu] [--json FILE]`."""
