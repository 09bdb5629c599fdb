"""Compile ahead of time what a first call would otherwise wait for."""

from recollect_kernels import loops


def prepare() -> list[str]:
    """Compile, or load, what the ops run on this machine, and say what that is and where it is kept.

    A serving process calls this before it says that it is ready; while an image is built, it fills the caches.
    """
    compiled = loops.compiled()
    if compiled is None:
        return ["CPU: torch alone; install numba (the extra 'cpu') for compiled loops"]
    return [f"CPU: compiled loops, kept in {compiled.search.stats.cache_path}"]
