"""`recollect bench classify`: encoders on torch and ONNX Runtime on this machine, and the cost of a classification."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json, show_table
from recollect.encoders import encoder_path
from recollect.settings import Settings

if TYPE_CHECKING:
    from retrieval.encoders.benchmarks.runner import Row

_FIGURES = ("images\n/CPU s", "ratio", "of wall\ntime", "texts\n/CPU s", "ratio\nof texts")


@explains_errors
def classify(
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Encoder to measure, may be repeated: a shipped one, one that was trained here (`encoder@stable`), a "
            "directory, or a name on the hub. Unless told: a ViT-B/32 of CLIP's size with random weights, and every "
            "shipped one."
        ),
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Images at once, may be repeated; 1 and 16.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and of ONNX Runtime.")] = 1,
    rounds: Annotated[int, typer.Option(min=5, help="Rounds in which all take a turn; figures are medians.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Time encoders on torch, on ONNX Runtime, and there in int8, and what a classification costs beyond them.

    Each encoder is exported first, which takes about two minutes for a ViT-B/32. `ratio` is torch's CPU time by that of
    the row: above 1, the row is faster. `score` is one image against 1,000 classes of 10 descriptors, reasons included.

    Examples:

    `recollect bench classify --json`

    `recollect bench classify --encoder openai/clip-vit-base-patch32 --batch 8`
    """
    import onnxruntime  # type: ignore[import-untyped]

    from recollect_kernels.benchmarks.machine import describe
    from recollect_kernels.benchmarks.machine import threads as limited_to
    from retrieval.encoders.benchmarks.runner import RANDOM_CLIP, BenchConfig, measure, on_every_runtime, rounds_of
    from retrieval.encoders.load import shipped_encoders

    settings = Settings.load()
    names = encoder or [RANDOM_CLIP, *shipped_encoders()]
    config = BenchConfig(batches=tuple(batch or (1, 16)), rounds=rounds, threads=threads)
    rows: list[Row] = []
    with limited_to(threads), progress() as bar:
        origin = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **describe("cpu"), "onnxruntime": onnxruntime.__version__}
        task = bar.add_task("measuring", total=rounds_of(config, names))
        for name in names:
            bar.update(task, description=f"exporting {name}")
            with on_every_runtime(name if name == RANDOM_CLIP else encoder_path(settings, name), threads) as encoders:
                bar.update(task, description=f"measuring {name}")
                found = measure(name, encoders, config, on_round=lambda: bar.advance(task))
            rows += [row | origin for row in found]
            if as_json:
                show_json(rows[-len(found) :])
    if RANDOM_CLIP in names:
        told = "The ViT-B/32 has CLIP's published size and random weights, which take as long as trained ones."
        err.print(told, highlight=False, soft_wrap=True)
    if not as_json:
        _show(rows)


def _show(rows: "Sequence[Row]") -> None:
    origin = rows[0]
    named = [f"{name} {origin[name]}" for name in ("python", "torch", "onnxruntime", "numpy")]
    facts = [origin["date"], origin["machine"], f"{origin['cores']} cores", f"{origin['threads']} threads"]
    line = ", ".join([*facts, f"load {origin['load']} before", *named, f"{origin['rounds']} rounds"])
    out.print(f"{line}; ratio = torch by the row", highlight=False, soft_wrap=True)
    for name in dict.fromkeys(row["encoder"] for row in rows):
        of_encoder = [row for row in rows if row["encoder"] == name]
        table = [
            (
                row["runtime"],
                row["batch"],
                f"{row['images_per_cpu_s']:,.1f}",
                f"{row['ratio']:.2f}",
                f"{row['ratio_wall']:.2f}",
                f"{row['texts_per_cpu_s']:,.0f}",
                f"{row['ratio_texts']:.2f}",
            )
            for row in of_encoder
        ]
        title = f"{name}: {of_encoder[0]['score_us']:,.0f} µs a classification beyond the encoder"
        show_table(title, ["runtime", "batch", *_FIGURES], table, right=["batch", *_FIGURES])
