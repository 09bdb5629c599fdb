"""Measure one encoder on every runtime, in turns, and what classifying costs once an image is embedded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recollect_kernels.benchmarks.timing import Timing, in_turns
from retrieval.encoders.benchmarks import inputs
from retrieval.encoders.load import load_encoder
from retrieval.encoders.onnx_export import export_onnx, sample_images
from retrieval.encoders.onnx_runtime import OnnxEncoder
from retrieval.encoders.protocol import Encoder

TORCH, ONNX, ONNX_INT8 = "torch fp32", "onnx fp32", "onnx int8"
RANDOM_CLIP = "ViT-B/32 (random weights)"
"""Stands for a CLIP of the published size, without a download."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """How it is measured."""

    batches: tuple[int, ...] = (1, 16)
    """Images embedded at once."""
    texts: int = 64
    """Texts embedded at once."""
    rounds: int = 5
    """Rounds in which each runtime takes a turn; figures are medians over them."""
    threads: int = 1
    """Of each runtime."""

    def __post_init__(self) -> None:
        if self.rounds < 5:
            raise ValueError(f"rounds must be at least 5 for a median that means something, got {self.rounds}")
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"batches must be at least 1, got {self.batches}")


@contextmanager
def on_every_runtime(reference: str, threads: int) -> Iterator[Mapping[str, Encoder]]:
    """The encoder of `reference` on torch, and its exports, which are gone afterwards. EncoderError as from these."""
    with TemporaryDirectory(prefix="recollect-bench-") as scratch:
        if reference == RANDOM_CLIP:
            from retrieval.encoders.benchmarks.random_clip import write_random_clip

            source = Path(scratch) / "clip"
            write_random_clip(source)
            encoder = load_encoder(source)
        else:
            encoder = load_encoder(reference)
        encoders = {TORCH: encoder}
        for runtime, int8 in ((ONNX, False), (ONNX_INT8, True)):
            directory = Path(scratch) / runtime.replace(" ", "-")
            export_onnx(encoder, directory, int8=int8, calibration=sample_images(encoder.preprocessing))
            encoders[runtime] = OnnxEncoder.load(directory, threads=threads)
        yield encoders


def measure(
    name: str, encoders: Mapping[str, Encoder], config: BenchConfig, *, on_round: Callable[[], object] = lambda: None
) -> list[Row]:
    """A row for each batch and runtime; `ratio` is CPU time of torch by that of the row, in the same rounds."""
    source = encoders[TORCH]
    texts = inputs.texts(config.texts)

    def timed(call: Callable[[Encoder], object]) -> dict[str, Timing]:
        calls = {runtime: lambda _turn, encoder=encoder: call(encoder) for runtime, encoder in encoders.items()}
        return in_turns(calls, rounds=config.rounds, device="cpu", on_round=on_round)

    of_texts = timed(lambda encoder: encoder.embed_texts(texts))
    score = score_us(source.dimension, config.rounds)
    rows = []
    for batch in config.batches:
        pixels = inputs.pixels(source.preprocessing, batch)
        of_images = timed(lambda encoder, pixels=pixels: encoder.embed_pixels(pixels))  # type: ignore[misc]
        rows += [
            {
                "encoder": name,
                "runtime": runtime,
                "batch": batch,
                "images_per_cpu_s": _per_second(batch, of_images[runtime].cpu_us),
                "texts_per_cpu_s": _per_second(config.texts, of_texts[runtime].cpu_us),
                "score_us": round(score, 1),
                "ratio": round(of_images[TORCH].cpu_us / of_images[runtime].cpu_us, 2),
                "ratio_texts": round(of_texts[TORCH].cpu_us / of_texts[runtime].cpu_us, 2),
                "images_per_s": _per_second(batch, of_images[runtime].p50_us),
                "ratio_wall": round(of_images[TORCH].p50_us / of_images[runtime].p50_us, 2),
                "dimension": source.dimension,
                "rounds": config.rounds,
            }
            for runtime in encoders
        ]
    return rows


def score_us(dimension: int, rounds: int) -> float:
    """Median CPU time, microseconds, of classifying one embedded image, reasons of the five best included."""
    classifier, image = inputs.classifier(dimension), inputs.image_embeddings(dimension)
    calls = {"classify": lambda _turn: classifier.classify(image, top_k=5, explain=True)}
    return in_turns(calls, rounds=rounds, device="cpu")["classify"].cpu_us


def rounds_of(config: BenchConfig, encoders: Sequence[str]) -> int:
    """How often `on_round` is called for `encoders`."""
    return len(encoders) * config.rounds * (1 + len(config.batches))


def _per_second(number: int, microseconds: float) -> float:
    return round(1e6 * number / microseconds, 1)
