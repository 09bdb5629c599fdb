"""Have Ray Data say nothing by itself, and hand over small blocks."""

import logging


def keep_quiet(*, block_bytes: int) -> None:
    """For all data sets of this process: no progress bars, errors only, and `block_bytes` that travel together."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # there is one already
    context.target_max_block_size = block_bytes
