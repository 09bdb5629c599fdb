"""`recollect classify`: say what is in a picture, by descriptions of the classes, and why; measure a descriptor set."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json, show_table
from recollect.encoders import open_encoder
from recollect.settings import Settings
from retrieval.errors import DatasetError, DescriptorError

if TYPE_CHECKING:
    from retrieval.descriptors.classifier import ClassHit, Classification, Contrast, Scoring
    from retrieval.descriptors.dataset import DatasetFormat, Skipped
    from retrieval.descriptors.descriptor_set import DescriptorSet
    from retrieval.descriptors.evaluation import Evaluation

SHIPPED = "demo-shop"
"""The encoder and the descriptor set that are used unless others are named."""
_LISTED = 10
"""Unusable images that are listed one by one."""

classify_app = typer.Typer(
    help="Say what is in a picture, by descriptions of the classes, and why.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

EncoderOption = Annotated[
    str,
    typer.Option(
        help="Image–text encoder: a shipped one, one that was trained here (`encoder@stable`), a directory, or the "
        "name of one on the hub."
    ),
]
ScoringOption = Annotated[
    str, typer.Option(help="`mean` of the descriptors' cosines, `renormalised` as prompt ensembles are, or `max`.")
]


@classify_app.command()
@explains_errors
def images(
    files: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    descriptors: Annotated[
        str | None, typer.Option(help=f"Descriptor set: a file or a shipped one; `{SHIPPED}` by default.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of classes, separated by commas, instead of a descriptor set.")
    ] = None,
    encoder: EncoderOption = SHIPPED,
    top_k: Annotated[int, typer.Option(min=1, help="Classes to show.")] = 5,
    explain: Annotated[bool, typer.Option(help="Show what each descriptor of these classes contributed.")] = False,
    contrast: Annotated[
        str | None, typer.Option(metavar="RIVAL", help="Show what made the best class win against this one.")
    ] = None,
    scoring: ScoringOption = "mean",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line an image instead of tables.")] = False,
) -> None:
    """Say which class each image shows, and why. Exit status 1 where an image cannot be used; the others are answered.

    Examples:

    `recollect classify images mug.jpg --explain`

    `recollect classify images *.jpg --classes "red mug,blue mug" --encoder openai/clip-vit-base-patch32`
    """
    from retrieval.descriptors.classifier import Classifier
    from retrieval.descriptors.controls import class_name_baseline
    from retrieval.descriptors.embedding import embed_files

    described, rule = _described(descriptors, classes), _scoring(scoring)
    if contrast is not None:
        described.index_of(contrast)  # a slip is told before anything takes time
    with err.status("loading the encoder") as status:
        towers = open_encoder(Settings.load(), encoder)
        status.update("embedding the texts")
        scale = towers.logit_scale
        classifier = Classifier.prepare(described, towers.embed_texts, logit_scale=scale, scoring=rule)
        names = Classifier.prepare(class_name_baseline(described), towers.embed_texts, logit_scale=scale)
        status.update("looking at the images")
        embedded = embed_files(towers, files)
    found = classifier.classify(embedded.embeddings, top_k=top_k, explain=True, contrast_with=contrast)
    by_name = [answer.hits[0] for answer in names.classify(embedded.embeddings, top_k=1)]
    if as_json:
        lines: dict[Path, dict[str, Any]] = {skipped.path: {"error": skipped.reason} for skipped in embedded.skipped}
        for at, answer, alone in zip(embedded.kept, found, by_name, strict=True):
            lines[files[at]] = _plain(answer, alone, explain=explain)
        show_json([{"image": str(file), **lines[file]} for file in files])
    else:
        for at, answer, alone in zip(embedded.kept, found, by_name, strict=True):
            _show(files[at], answer, alone, explain=explain, rival=contrast)
    _complain(embedded.skipped)
    if embedded.skipped:
        raise typer.Exit(1)


@classify_app.command()
@explains_errors
def evaluate(
    source: Annotated[
        Path,
        typer.Option(
            "--images",
            help="Folder with a folder a class; CSV or TSV with columns image and label; or a list of the Grocery "
            "Store data set.",
        ),
    ],
    descriptors: Annotated[str, typer.Option(help="Descriptor set: a file or a shipped one.")] = SHIPPED,
    encoder: EncoderOption = SHIPPED,
    scoring: ScoringOption = "mean",
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS: DESCRIPTOR", help="Compare with the set without this descriptor; repeatable."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Directory for report.md, report.json and confusion.png.")] = None,
    dataset_format: Annotated[
        str | None, typer.Option("--format", help="`folder`, `table` or `grocery`; recognised by default.")
    ] = None,
    image_column: Annotated[str, typer.Option(help="Column of a table that names the files.")] = "image",
    label_column: Annotated[str, typer.Option(help="Column of a table that names the classes.")] = "label",
    seed: Annotated[int, typer.Option(min=0, help="Seed of random controls and of resampling.")] = 0,
    repetitions: Annotated[int, typer.Option(min=1, help="Draws of each random control.")] = 5,
    resamples: Annotated[int, typer.Option(min=1_000, help="Resamples behind each interval.")] = 2_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as a JSON line.")] = False,
) -> None:
    """Measure a descriptor set on labelled images: against class names, prompt ensembles and random words; class by
    class; and descriptor by descriptor, by what changes when it alone is taken out.

    Example: `recollect classify evaluate --images photos/ --descriptors mine.json --output report/`
    """
    from retrieval.descriptors.dataset import read_images
    from retrieval.descriptors.embedding import embed_files
    from retrieval.descriptors.evaluation import evaluate as measure

    described, rule = _described(descriptors, None), _scoring(scoring)
    edited = _without(described, remove) if remove else None
    dataset = read_images(
        source, dataset_format=_format(dataset_format), image_column=image_column, label_column=label_column
    )
    with progress() as bar:
        task = bar.add_task("loading the encoder", total=None)
        towers = open_encoder(Settings.load(), encoder)
        bar.update(task, description="embedding images", total=len(dataset.images))
        paths = [image.path for image in dataset.images]
        embedded = embed_files(towers, paths, progress=lambda files: bar.advance(task, files))
        bar.update(task, description="embedding texts", completed=0, total=None)
        found = measure(
            described,
            towers.embed_texts,
            embedded.embeddings,
            [dataset.images[at].label for at in embedded.kept],
            scoring=rule,
            edited=edited,
            seed=seed,
            repetitions=repetitions,
            resamples=resamples,
            progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
        )
        bar.update(task, description="evaluated", completed=1, total=1)
    skipped = (*dataset.skipped, *embedded.skipped)
    result = {
        "encoder": towers.name,
        "encoder_fingerprint": towers.fingerprint,
        "source": str(source),
        "removed": remove or [],
        "skipped": [{"image": str(each.path), "reason": each.reason} for each in skipped],
        **found.as_dict([str(paths[at]) for at in embedded.kept]),
    }
    if output is not None:
        _save(output, found, result)
    if as_json:
        show_json([result])
    else:
        _show_evaluation(found)
    _complain(skipped)


def _described(descriptors: str | None, classes: str | None) -> "DescriptorSet":
    from retrieval.descriptors.controls import class_name_baseline
    from retrieval.descriptors.descriptor_set import DescriptorSet, load_descriptor_set

    if classes is None:
        return load_descriptor_set(descriptors or SHIPPED)
    if descriptors is not None:
        raise DescriptorError("--descriptors and --classes both say what the classes are; give one of them")
    names = [name.strip() for name in classes.split(",")]
    return class_name_baseline(DescriptorSet.from_mapping("classes", dict.fromkeys(names, ())))


def _without(described: "DescriptorSet", removed: Sequence[str]) -> "DescriptorSet":
    for each in removed:
        class_name, colon, descriptor = each.partition(":")
        if not colon:
            raise DescriptorError(f"--remove must be `CLASS: DESCRIPTOR`, got {each!r}")
        described = described.without_descriptor(class_name.strip(), descriptor.strip())
    return described


def _scoring(name: str) -> "Scoring":
    from retrieval.descriptors.classifier import Scoring

    try:
        return Scoring(name)
    except ValueError:
        raise DescriptorError(f"--scoring must be one of {', '.join(Scoring)}, got {name!r}") from None


def _format(name: str | None) -> "DatasetFormat | None":
    from retrieval.descriptors.dataset import DatasetFormat

    try:
        return None if name is None else DatasetFormat(name)
    except ValueError:
        raise DatasetError(f"--format must be one of {', '.join(DatasetFormat)}, got {name!r}") from None


def _plain(answer: "Classification", by_name: "ClassHit", *, explain: bool) -> dict[str, Any]:
    plain = asdict(answer)
    if not explain:
        for hit in plain["hits"]:
            del hit["reasons"]
    return plain | {"by_name": {"name": by_name.name, "score": by_name.score}}


def _show(file: Path, answer: "Classification", by_name: "ClassHit", *, explain: bool, rival: str | None) -> None:
    columns = ["class", "score", "probability"]
    rows = [[hit.name, f"{hit.score:.4f}", f"{hit.probability:.1%}"] for hit in answer.hits]
    _say(str(file))
    show_table("", columns, rows, right=columns[1:])
    best = answer.hits[0]
    if best.reasons[0].descriptor != best.name:  # its name is all the reason there is
        because = ", ".join(f"{reason.descriptor} ({reason.similarity:.3f})" for reason in best.reasons[:3])
        _say(f"{best.name}: {because}. By names alone it would be {by_name.name} ({by_name.score:.3f}).")
    if explain:
        numbers = ["similarity", "contribution"]
        reasons = [
            [hit.name, reason.descriptor, f"{reason.similarity:.4f}", f"{reason.contribution:+.4f}"]
            for hit in answer.hits
            for reason in hit.reasons
        ]
        show_table("what each descriptor contributed", ["class", "descriptor", *numbers], reasons, right=numbers)
    if answer.contrast is not None:
        _show_contrast(answer.contrast)
    elif rival is not None:
        _say(f"{best.name} is the best class itself; there is nothing to hold it against.")
    out.print()


def _say(text: str) -> None:
    out.print(text, highlight=False, soft_wrap=True)


def _show_contrast(contrast: "Contrast") -> None:
    rows = [[term.class_name, term.descriptor, f"{term.contribution:+.4f}"] for term in contrast.terms]
    _say(f"Why {contrast.winner} and not {contrast.rival}: {contrast.difference:+.4f}.")
    show_table("", ["class", "descriptor", "contribution"], rows, right=["contribution"])


def _show_evaluation(found: "Evaluation") -> None:
    from retrieval.descriptors.report import remarks, tables

    for table in tables(found):
        show_table(table.title, table.columns, table.rows, right=table.numbers)
    for remark in remarks(found):
        _say(remark)


def _save(directory: Path, found: "Evaluation", result: dict[str, Any]) -> None:
    from retrieval.descriptors.confusion import draw_confusion
    from retrieval.descriptors.report import markdown
    from retrieval.files import write_whole

    text = markdown(found, encoder=result["encoder"], source=result["source"])
    write_whole(directory / "report.md", text)
    write_whole(directory / "report.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    drawn = draw_confusion(found.class_names, found.confusion, directory / "confusion.png")
    files = "report.md, report.json and confusion.png" if drawn else "report.md and report.json"
    err.print(f"Wrote {files} into {directory}.", highlight=False)


def _complain(skipped: "Sequence[Skipped]") -> None:
    for each in skipped[:_LISTED]:
        err.print(f"{each.path}: {each.reason}", highlight=False, soft_wrap=True)
    if len(skipped) > _LISTED:
        err.print(f"… and {len(skipped) - _LISTED} more images that cannot be used", highlight=False)
