"""The parts of `kernels/on_gpu.py`: its steps, how one is run, what is missing, and the tests' journal."""
