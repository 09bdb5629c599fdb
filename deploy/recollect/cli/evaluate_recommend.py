"""`recollect evaluate recommend`: what users did next, held against what would have been recommended to them."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json, show_table

if TYPE_CHECKING:
    from recollect.evaluations import Evaluated
    from recsys.recommending.evaluation import Evaluation
    from recsys.recommending.metrics import Mean


@explains_errors
def recommend(
    model: Annotated[str, typer.Argument(help="name@label, name/version or a model directory.")] = "dare@stable",
    index: Annotated[str, typer.Option(metavar="INDEX", help="Index of that model's items.")] = "items@stable",
    split: Annotated[str, typer.Option(help="`validation`, to choose by, or `test`.")] = "test",
    store: Annotated[
        Path | None, typer.Option(help="Event store; by default the one that the model was trained on.")
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="Most users to ask; of more, so many are drawn.")] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that draw.")] = 0,
    popularity: Annotated[
        float | None, typer.Option(help="How far popularity counts; by default as `recollect serve` is set.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File for the result; by default in var/evaluations.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Recommend to each user of a split as of the moment that it begins, beside popularity, item-to-item and parts of
    Recommend; print and save recall of the candidates, and NDCG, recall, hit rate and coverage of what is shown.

    Twice: with only items that are new to a user wanted and shown, and with all. Histories hold what came strictly
    before, popularity and what is taken together are counted over the events of training, and the index must be one of
    the model's own items. Figures are means over users, with their standard errors.

    Example: `recollect evaluate recommend dare@stable --index items@stable --split validation`
    """
    from recollect.evaluations import open_evaluated, open_index_of, save_result, split_named
    from recollect.indexes.serving import IndexNeighbours
    from recollect.settings import Settings
    from recsys.models.popularity import Popularity
    from recsys.ranking import Ranker
    from recsys.recommending.candidates import CandidateConfig
    from recsys.recommending.contenders import Depth, contenders
    from recsys.recommending.evaluation import evaluate
    from recsys.recommending.held_out import held_out
    from recsys.recommending.recommender import Recommender
    from recsys.recommending.together import TakenTogether

    chosen = split_named(split)
    settings = Settings.load(recommend_popularity=popularity)
    opened = open_evaluated(settings, model, store)
    built, vectors = open_index_of(settings, index, opened.artifact)
    _warn(opened)
    protocol = opened.config.samples.protocol
    training = protocol.training_events(opened.events)
    served = Recommender(
        rank=Ranker(opened.saved.model.serving(), opened.saved.catalogue).rank,
        neighbours=IndexNeighbours(vectors),
        catalogue=opened.saved.catalogue,
        popularity=Popularity.of(opened.events, training),
        config=CandidateConfig(
            candidates=settings.recommend_candidates, popularity_weight=settings.recommend_popularity
        ),
    )
    asked = held_out(opened.events, protocol, chosen, most_users=users, seed=seed)
    depth = Depth(candidates=settings.recommend_candidates)
    compared = contenders(served, TakenTogether(opened.events, training), depth)
    with progress() as bar:
        measured = []
        for again, told in ((False, "new items"), (True, "all items")):
            task = bar.add_task(told, total=len(asked.users))
            measured.append(evaluate(asked, compared, again=again, progress=partial(bar.advance, task)))
            bar.update(task, completed=len(asked.users))
    common = {
        "model": opened.artifact.name,
        "version": opened.artifact.version,
        "index": built.reference,
        "split": split,
        "popularity_weight": settings.recommend_popularity,
        "users_without_history": asked.without_history,
    }
    rows = [{**common, **_facts(evaluation), **row.as_row()} for evaluation in measured for row in evaluation.rows]
    name = f"{opened.artifact.name}-{opened.artifact.version}-{split}-recommend.json"
    path = save_result(settings, output, name, rows)
    if as_json:
        show_json(rows)
        return
    for evaluation in measured:
        _show(evaluation, f"{opened.artifact.reference}, {split} of {opened.events.directory}")
    out.print(f"Saved to {path}, with every cut of each figure.", highlight=False)


def _warn(opened: "Evaluated") -> None:
    samples = opened.config.samples
    if samples.negatives_of == "untouched":
        err.print(
            "this model's negatives were drawn from what users never touched, after the split neither, so that it was "
            "never told not to want what is held out, and these figures flatter it; train with negatives of all items, "
            "as `--preset recommend` does",
            style="yellow",
            highlight=False,
        )


def _facts(evaluation: "Evaluation") -> dict[str, Any]:
    return {"wanted": "all" if evaluation.again else "new", "users": evaluation.users, "targets": evaluation.targets}


def _show(evaluation: "Evaluation", title: str) -> None:
    """One cut of each figure, as many as terminals have room for; the file has all of them."""
    from recsys.recommending.evaluation import CANDIDATE_CUTS, COMPARED

    wanted = "all items" if evaluation.again else "new items"
    title = f"{wanted}: {evaluation.users:,} users took {evaluation.targets:,}; {title}"
    fewest, most = CANDIDATE_CUTS[0], CANDIDATE_CUTS[-1]
    columns = ["%", "NDCG@20", "less", "recall@20", "hit rate", "coverage", f"in {fewest} candidates", f"in {most}"]
    rows = [
        [
            row.contender,
            _percent(row.figures[COMPARED]),
            f"{100 * row.difference.value:+.1f} ± {100 * row.difference.error:.1f}",
            *(f"{100 * row.figures[name].value:.1f}" for name in ("recall@20", "hit_rate@20")),
            f"{100 * row.coverage['coverage@20']:.1f}",
            *(f"{100 * row.figures[f'candidate_recall@{cut}'].value:.1f}" for cut in (fewest, most)),
        ]
        for row in evaluation.rows
    ]
    show_table(title, columns, rows, right=columns[1:])


def _percent(mean: "Mean") -> str:
    return f"{100 * mean.value:.1f} ± {100 * mean.error:.1f}"
