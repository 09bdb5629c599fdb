"""`recollect descriptors`: see the descriptor sets that there are, check one, and have a language model write one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json, show_table
from recollect.errors import SetupError

if TYPE_CHECKING:
    from recollect.settings import Settings
    from retrieval.descriptors.generation import GenerationConfig, GenerationReport

descriptors_app = typer.Typer(
    help="Descriptor sets: list, show, check and generate them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

SetArgument = Annotated[
    str, typer.Argument(metavar="NAME_OR_FILE", help="A shipped set by its name, or a file.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


@descriptors_app.command("list")
@explains_errors
def list_sets(as_json: JsonOption = False) -> None:
    """The descriptor sets that come with Recollect."""
    from retrieval.descriptors.descriptor_set import load_descriptor_set, shipped_sets

    rows = [
        {"name": each, "classes": len(found.classes), "descriptors": sum(len(one.descriptors) for one in found.classes)}
        for each in shipped_sets()
        for found in [load_descriptor_set(each)]
    ]
    if as_json:
        show_json(rows)
        return
    columns = ["name", "classes", "descriptors"]
    show_table("descriptor sets", columns, [[row[name] for name in columns] for row in rows], right=columns[1:])


@descriptors_app.command()
@explains_errors
def show(
    name_or_file: SetArgument,
    class_name: Annotated[str | None, typer.Option("--class", help="Only this class.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The classes of a set, with their descriptors as a text encoder reads them.

    Example: `recollect descriptors show grocery --class Kiwi`
    """
    from retrieval.descriptors.descriptor_set import load_descriptor_set

    found = load_descriptor_set(name_or_file)
    chosen = range(len(found.classes)) if class_name is None else [found.index_of(class_name)]
    texts = found.texts_by_class()
    if as_json:
        show_json(
            [
                {
                    "class": found.classes[at].name,
                    "descriptors": list(found.classes[at].descriptors),
                    "texts": texts[at],
                }
                for at in chosen
            ]
        )
        return
    show_table(found.name, ["class", "texts"], [[found.classes[at].name, "\n".join(texts[at])] for at in chosen])


@descriptors_app.command()
@explains_errors
def check(name_or_file: SetArgument, as_json: JsonOption = False) -> None:
    """What the author of a set should mend; exit status 1 where there is something.

    A set with problems can be used all the same: each line says what is done about it.
    """
    from retrieval.descriptors.descriptor_set import load_descriptor_set

    found = load_descriptor_set(name_or_file)
    problems = found.problems()
    if as_json:
        show_json(
            [
                {
                    "kind": problem.kind,
                    "class": problem.class_name,
                    "descriptor": problem.descriptor,
                    "message": problem.message,
                }
                for problem in problems
            ]
        )
    elif problems:
        show_table(found.name, ["problem", "where"], [[problem.kind, problem.message] for problem in problems])
    else:
        out.print(f"{found.name}: {len(found.classes)} classes, nothing to mend", highlight=False)
    if problems:
        raise typer.Exit(1)


@descriptors_app.command()
@explains_errors
def generate(
    classes: Annotated[
        Path, typer.Option(help="Class names: one a line (# begins a comment), or a JSON list.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option(help="Descriptor set to fill; CLASSES with the ending .descriptors.json unless told.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask again about classes that a model wrote and nobody edited.")
    ] = False,
    base_url: Annotated[
        str | None,
        typer.Option(help="Where chat completions are answered, as https://host/v1 [RECOLLECT_LLM_BASE_URL]."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model to ask [RECOLLECT_LLM_MODEL].")] = None,
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Questions under way at once.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="How long one answer may take, seconds.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as a JSON line.")] = False,
) -> None:
    """Have a language model write the descriptors of classes, at any endpoint that speaks OpenAI's chat completions.

    Stopped? Run the same command again: it asks only for what is missing. What you write or change in the file by hand
    is yours; no run touches it. A class that you delete is written anew. A key goes into RECOLLECT_LLM_API_KEY.

    Example: `recollect descriptors generate --classes birds.txt --base-url http://localhost:8000/v1 --model qwen3`
    """
    from recollect.settings import Settings
    from retrieval.descriptors.generation import GenerationConfig, read_class_names

    settings = Settings.load(llm_base_url=base_url, llm_model=model)
    path = output or classes.with_suffix(".descriptors.json")
    config = GenerationConfig(in_flight=in_flight)
    report = _generate(settings, read_class_names(classes), path, config, refresh=refresh, timeout_s=timeout)
    _show_report(report, path, as_json=as_json)
    if report.reasons:
        raise typer.Exit(1)


def _generate(
    settings: "Settings", names: list[str], path: Path, config: "GenerationConfig", *, refresh: bool, timeout_s: float
) -> "GenerationReport":
    import asyncio

    from retrieval.descriptors.generation import generate_descriptors
    from retrieval.descriptors.language_model import LanguageModel, Patience

    if settings.llm_base_url is None or settings.llm_model is None:
        missing = [key for key in ("llm_base_url", "llm_model") if getattr(settings, key) is None]
        raise SetupError(
            f"no language model is configured: {' and '.join(missing)} not set; give --base-url and --model, or set "
            f"{' and '.join(f'RECOLLECT_{key.upper()}' for key in missing)}"
        )
    endpoint = (settings.llm_base_url, settings.llm_model)

    async def run() -> "GenerationReport":
        with progress() as bar:
            task = bar.add_task("classes", total=len(names))
            async with LanguageModel(
                *endpoint, api_key=settings.llm_api_key, patience=Patience(timeout_s=timeout_s)
            ) as language_model:
                return await generate_descriptors(
                    names,
                    path,
                    language_model,
                    config=config,
                    refresh=refresh,
                    on_class=lambda *_: bar.advance(task),
                )

    return asyncio.run(run())


def _show_report(report: "GenerationReport", path: Path, *, as_json: bool) -> None:
    from retrieval.descriptors.generation import Outcome

    if as_json:
        names = {outcome.replace("-", "_"): report.those(outcome) for outcome in Outcome if outcome != Outcome.FAILED}
        show_json([{"path": str(path), **names, "failed": dict(report.reasons)}])
        return
    rows = [[outcome, len(report.those(outcome))] for outcome in Outcome]
    show_table(str(path), ["outcome", "classes"], rows, right=["classes"])
    for name, reason in report.reasons.items():
        err.print(f"{name}: {reason}", highlight=False, soft_wrap=True)
