"""Memory on the CPU: keep what was freed for the next step instead of giving it back to the kernel."""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more
_KEEP_ALL = 2**31 - 1
_GROW_BY = 64 << 20


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to serve tensors below 32 MB from memory that it keeps. Returns whether it could.

    A training step frees and asks for the same sizes again and again; by default every larger tensor is a fresh
    mapping, whose pages the kernel must clear. Where there is no glibc nothing changes.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        settings = ((_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_TRIM_THRESHOLD, _KEEP_ALL), (_TOP_PAD, _GROW_BY))
        return all(libc.mallopt(name, value) == 1 for name, value in settings)
    except (OSError, AttributeError):
        return False
