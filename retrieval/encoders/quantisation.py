"""Turn an ONNX tower into int8: products as they come, convolutions by what real pictures make of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

from retrieval.encoders.protocol import Floats

_EXACT_ON_X86 = {"avx512_vnni", "avx_vnni"}
_PRODUCTS = ["MatMul", "Gemm"]


def quantise_products(source: Path, target: Path) -> None:
    """Write `source` with int8 weights, a scale each column; inputs get theirs while it runs. Embeddings stay fp32."""
    with _without_chatter():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=_PRODUCTS,
            per_channel=True,
            reduce_range=needs_reduced_range(),
            weight_type=QuantType.QInt8,
        )


def quantise_convolutions(source: Path, target: Path, images: Sequence[Floats]) -> None:
    """Write `source` in int8 throughout, with ranges that the preprocessed `images` [3, h, w] were seen to take."""
    with _without_chatter(), TemporaryDirectory(dir=target.parent) as scratch:
        folded = Path(scratch) / "folded.onnx"
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            target,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=needs_reduced_range(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def needs_reduced_range(cpu: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether int8 products overflow 16 bits on this CPU, so that weights must leave one bit unused.

    They do on x86 without the VNNI instructions; ARM's instructions, and what has no list of features, do not.
    """
    if not cpu.is_file():
        return False
    features = {word for line in cpu.read_text().splitlines() if line.startswith("flags") for word in line.split()}
    return "sse2" in features and not features & _EXACT_ON_X86


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """One image at a time."""

    def __init__(self, images: Sequence[Floats]) -> None:
        self._rest = iter(images)

    def get_next(self) -> dict[str, Floats] | None:
        image = next(self._rest, None)
        return None if image is None else {"pixels": image[None]}


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Without advice to preprocess what has been, which the library logs to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
