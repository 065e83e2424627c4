"""What Triton makes of every kernel, for GPUs that need not be there: `python -m fcos_kernels.aot`."""
