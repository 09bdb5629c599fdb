"""The shapes that the ops are measured at, and compiled for: one place, so that no benchmark picks its own."""

from dataclasses import dataclass
from typing import Literal

TableDtype = Literal["float32", "float16", "bfloat16", "int8", "float8"]
"""How the benchmark stores its tables; int8 and float8 rows carry one fp32 scale each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One call: B histories of L behaviours, T targets each, the k best of them pooled."""

    use: str
    """Who calls like this."""
    b: int
    """Histories."""
    t: int
    """Targets a history."""
    length: int
    """Behaviours a history."""
    d: int
    """Width of an attention row."""
    k: int
    """Behaviours kept; at most `length`."""
    e: int
    """Width of a representation row."""
    table: TableDtype
    """Storage of both tables."""
    vocabulary: int = 1_000_000
    """Rows of each table."""
    trained: bool = False
    """Whether gradients are taken here; such a shape is not served."""


def gpu_shapes() -> list[Shape]:
    """The four that SCIENCE gives floors for, and the training step."""
    return [
        _served_on_gpu("ranking one user", b=1, t=500, length=10_000),
        _served_on_gpu("ranking a batch of users", b=64, t=100, length=50_000),
        _served_on_gpu("one target, short history", b=2048, t=1, length=200),
        _served_on_gpu("one target, long history", b=256, t=1, length=10_000),
        training_shape(),
    ]


def cpu_shapes() -> list[Shape]:
    """What a CPU replica is asked for, from one target in a short history to a whole page in a very long one."""
    return [
        _served_on_cpu("one target, short history", t=1, length=200),
        _served_on_cpu("one target, long history", t=1, length=10_000),
        _served_on_cpu("one target, very long history", t=1, length=50_000),
        _served_on_cpu("ranking in a short history", t=100, length=1_000),
        _served_on_cpu("ranking in a long history", t=100, length=10_000),
        _served_on_cpu("ranking a page", t=500, length=10_000),
        _served_on_cpu("ranking in a very long history", t=100, length=50_000),
        _served_on_cpu("ranking a page in a very long history", t=500, length=50_000),
        _served_on_cpu("many users at once", b=64, t=1, length=10_000),
        _served_on_cpu("demo model, wide rows", t=100, length=10_000, width=64),
        _served_on_cpu("half-size tables", t=100, length=10_000, table="float16"),
        _served_on_cpu("quarter-size tables", t=100, length=10_000, table="int8"),
        training_shape(),
    ]


def training_shape() -> Shape:
    """One step of the published batch of 2,048 samples: three targets a history, joined rows of 2 x 16.

    The tables hold the rows that the step uses and no others, as DARE's training here gives them to the ops.
    """
    return Shape(
        use="training step",
        b=682,
        t=3,
        length=200,
        d=32,
        k=20,
        e=32,
        table="float32",
        vocabulary=682 * 200,
        trained=True,
    )


def _served_on_gpu(use: str, *, b: int, t: int, length: int) -> Shape:
    return Shape(use=use, b=b, t=t, length=length, d=16, k=32, e=64, table="float16")


def _served_on_cpu(
    use: str, *, t: int, length: int, b: int = 1, width: int = 16, table: TableDtype = "float32"
) -> Shape:
    return Shape(use=use, b=b, t=t, length=length, d=width, k=32, e=width, table=table)
