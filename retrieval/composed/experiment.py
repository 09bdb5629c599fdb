"""What the modulator is worth: the ablations of arXiv 2604.05393 side by side, by seed."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from retrieval.composed.datasets import load_dataset
from retrieval.composed.directory import load_model
from retrieval.composed.encoder import ComposedEncoder, load_stored
from retrieval.composed.modulator import Modulation
from retrieval.composed.references import Reference, dataset_features
from retrieval.composed.training.config import ComposedTrainConfig
from retrieval.composed.training.job import TrainJob, identity, measured, run_job
from retrieval.errors import ComposedError
from retrieval.files import write_whole
from retrieval.runs.directory import MODEL_DIRECTORY, claim
from retrieval.runs.workers import ALONE

RESULT_FILE = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table."""

    name: str
    modulation: Modulation
    fixed: float = 1.0
    """β of FIXED."""
    reference: Reference = Reference.WHOLE

    def of(self, config: ComposedTrainConfig, seed: int) -> ComposedTrainConfig:
        """`config` as this variant trains it."""
        modulator = dataclasses.replace(config.modulator, modulation=self.modulation, fixed=self.fixed)
        return dataclasses.replace(config, modulator=modulator, reference=self.reference, seed=seed)


def variants(fixed: Iterable[float]) -> tuple[Variant, ...]:
    """No box, the box shown in the picture, one β for all queries, and a β of each query's own."""
    return (
        Variant("no box", Modulation.NONE),
        Variant("red rectangle", Modulation.NONE, reference=Reference.RECTANGLE),
        Variant("crop of the box", Modulation.NONE, reference=Reference.CROP),
        *(Variant(f"fixed β = {beta:g}", Modulation.FIXED, fixed=beta) for beta in fixed),
        Variant("scalar AdaFocal", Modulation.SCALAR),
        Variant("vector AdaFocal", Modulation.VECTOR),
    )


def freeze_all(job: TrainJob, rows: Sequence[Variant], split: str) -> None:
    """Run the image encoder before the runs that share what it says."""
    start = load_stored(job.start)
    for part in (job.split, split):
        dataset = load_dataset(job.kind, Path(job.directory), part)
        for reference in dict.fromkeys(variant.reference for variant in rows):
            dataset_features(dataset, start.model, Path(job.features) / part, reference=reference)


def run_one(
    job: TrainJob, config: ComposedTrainConfig, variant: Variant, seed: int, run: Path, split: str
) -> dict[str, Any]:
    """Train `variant` on one thread and evaluate it; what `run` holds of it already is not repeated."""
    torch.set_num_threads(1)
    own = variant.of(config, seed)
    claim(run, identity(job, own))
    run_job(run, ALONE)
    return {"variant": variant.name, "seed": seed, **evaluate_run(job, run, own.reference, split)}


def run_name(variant: Variant, seed: int) -> str:
    """What the run directory of a variant and seed is called."""
    words = re.sub(r"[^a-z0-9.]+", "-", variant.name.replace("β", "beta").lower()).strip("-")
    return f"{words}-seed{seed}"


def evaluate_run(job: TrainJob, run: Path, reference: Reference, split: str) -> dict[str, Any]:
    """What the model that `run` trained reaches on `split`; kept in the run directory while the split is the same."""
    path = run / f"{split}.{RESULT_FILE}"
    dataset = load_dataset(job.kind, Path(job.directory), split)
    digest = dataset.digest()
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        if kept.get("data") == digest:
            return kept
    stored = load_model(run / MODEL_DIRECTORY)
    features = dataset_features(dataset, stored.model, Path(job.features) / split, reference=reference)
    encoder = ComposedEncoder(stored.model, stored.tokenizer, name=run.name, fingerprint=stored.fingerprint)
    evaluation = measured(dataset, features, encoder)
    result = {
        "metrics": evaluation.metrics,
        "by_kind": evaluation.by_kind,
        "by_category": evaluation.by_category,
        "beta": evaluation.beta.mean(axis=1).round(4).tolist(),
        "kinds": [query.kind for query in dataset.queries],
        "data": digest,
    }
    write_whole(path, json.dumps(result))
    return result


def table_of(results: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """One row a run: variant, seed and every metric, overall and by kind of text."""
    if not results:
        raise ComposedError("there must be at least one finished run to put in a table")
    rows = []
    for result in results:
        row = {"variant": result["variant"], "seed": result["seed"], **result["metrics"]}
        for kind, metrics in result["by_kind"].items():
            row |= {f"{kind}/{name}": value for name, value in metrics.items()}
        if result["beta"]:
            row["beta"] = float(np.mean(result["beta"]))
        rows.append(row)
    return pl.DataFrame(rows)


def markdown(runs: pl.DataFrame, columns: Sequence[str]) -> str:
    """Mean ± standard deviation over seeds of each variant, in the order of the runs; recalls in percent."""
    present = [column for column in columns if column in runs.columns]
    lines = [f"| variant | seeds | {' | '.join(present)} |", f"|---|---|{'---|' * len(present)}"]
    for (variant,), own in runs.group_by(["variant"], maintain_order=True):
        cells = [_spread(own[column].to_numpy() * (1 if column == "beta" else 100)) for column in present]
        lines.append(f"| {variant} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: np.ndarray) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def draw_betas(results: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Write a PNG of how β is spread over the queries of each kind of text; False where no variant learns one."""
    from matplotlib.figure import Figure

    learned = [result for result in results if "AdaFocal" in result["variant"] and any(result["kinds"])]
    if not learned:
        return False
    names = list(dict.fromkeys(result["variant"] for result in learned))
    figure = Figure(figsize=(4.5 * len(names), 3.5), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        own = [result for result in learned if result["variant"] == name]
        kinds = sorted(set(own[0]["kinds"]))
        betas = [
            np.concatenate([np.array(result["beta"])[np.array(result["kinds"]) == kind] for result in own])
            for kind in kinds
        ]
        axes.violinplot(betas, showmedians=True)
        axes.set_xticks(range(1, len(kinds) + 1), kinds)
        axes.set_title(f"{name}, {len(own)} seeds", fontsize=10)
        axes.set_ylabel("β")
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(path)
    return True
