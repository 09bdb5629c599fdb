"""`recollect bench index`: indexes of whole catalogues on this machine, beside bare FAISS with the same parameters."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json, show_table


@explains_errors
def index(
    count: Annotated[int, typer.Option("--count", "-n", min=1_000, help="Vectors.")] = 1_000_000,
    dimension: Annotated[int, typer.Option(min=2, help="Numbers of each.")] = 128,
    storage: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16, sq8 or pq; may be repeated. fp32 and sq8 unless told.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Rounds in which both take a turn; figures are medians.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads that build; a query takes one.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Build indexes of made vectors both ways, and let both answer the same queries one by one.

    `ratio` is our queries a second by bare FAISS's: the price of checks, ids and filters. Building ours also orders the
    vectors by id, keeps what a killed build goes on from, writes and hashes.

    Example: `recollect bench index --json`
    """
    from recollect_kernels.benchmarks.machine import describe
    from retrieval.index.benchmarks.vectors import Sizes, measure
    from retrieval.index.spec import Storage, choose_spec

    try:
        wanted = [Storage(each) for each in storage or ("fp32", "sq8")]
    except ValueError:
        raise typer.BadParameter(f"--storage must be of {', '.join(Storage)}, got {', '.join(storage or ())}") from None
    sizes = Sizes(count=count, dimension=dimension, centres=max(10, count // 50), rounds=rounds, threads=threads)
    origin = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **describe("cpu"), "threads": threads, "rounds": rounds}
    rows = []
    with progress() as bar:
        for each in wanted:
            task = bar.add_task(f"{each}", total=None)
            spec = choose_spec(count, dimension, storage=each, memory_bytes=1 << 40)
            row = measure(spec, sizes, told=lambda step, task=task: bar.update(task, description=step))  # type: ignore[misc]
            bar.update(task, description=row.spec, total=1, completed=1)
            rows.append(row.as_json())
    if as_json:
        show_json([row | origin for row in rows])
        return
    facts = [origin["date"], origin["machine"], f"{origin['cores']} cores", f"load {origin['load']} before"]
    out.print(", ".join(map(str, facts)), highlight=False, soft_wrap=True)
    columns = ["spec", "recall@10", "queries/s", "bare", "ratio", "build s", "bare", "MB", "bare", "peak MB", "bare"]
    names = (
        "build_s",
        "bare_build_s",
        "memory_mb",
        "bare_memory_mb",
        "build_peak_mb",
        "bare_build_peak_mb",
    )
    cells = [
        [
            row["spec"],
            f"{row['recall10']:.3f}",
            f"{row['qps']:,.0f}",
            f"{row['bare_faiss_qps']:,.0f}",
            f"{row['ratio']:.2f}",
            *(f"{row[name]:,.0f}" for name in names),
        ]
        for row in rows
    ]
    show_table(f"{count:,} vectors of {dimension}", columns, cells, right=columns[1:])
    err.print("ratio = ours by bare FAISS: above 1, ours is faster", highlight=False)
