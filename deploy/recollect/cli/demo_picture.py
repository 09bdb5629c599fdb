"""The part of `recollect demo` that looks: a picture of an item is classified by description, with its reasons."""

import io
from typing import TYPE_CHECKING

from recollect.cli.console import out, show_table

if TYPE_CHECKING:
    from recollect_api.classification_records import ClassifiedImage
    from recollect_api.client import RecollectClient

DESCRIPTORS = "demo-shop"
SHOWN = 3
"""Classes shown."""


def show_picture(client: "RecollectClient", item_name: str, seed: int) -> None:
    """Draw `item_name`, ask the service what it is, and show what made the best class win against the next one.

    The service gets the picture alone: it does not know the name.
    """
    from recollect_api.classification_records import RefusedImage

    picture = _drawn(item_name, seed)
    (answer,) = client.classify([picture], descriptor_set=DESCRIPTORS, top_k=SHOWN).images
    assert not isinstance(answer, RefusedImage)
    rival = answer.hits[1].name
    answers = client.classify([picture], descriptor_set=DESCRIPTORS, top_k=SHOWN, explain=True, contrast_with=rival)
    (answer,) = answers.images
    assert not isinstance(answer, RefusedImage)
    show_table(
        f"\nA picture of the {item_name}, classified by {answers.encoder_name} and the descriptions of {DESCRIPTORS!r}",
        ["class", "score", "probability", "what fits best"],
        [
            (
                hit.name,
                f"{hit.score:.3f}",
                f"{hit.probability:.1%}",
                ", ".join(f"{reason.descriptor} {reason.similarity:.2f}" for reason in hit.reasons[:SHOWN]),
            )
            for hit in answer.hits
        ],
        right=["score", "probability"],
    )
    _show_difference(answer)


def _show_difference(answer: "ClassifiedImage") -> None:
    contrast = answer.contrast
    assert contrast is not None

    def told(class_name: str) -> str:
        largest = [term for term in contrast.terms if term.class_name == class_name]
        largest.sort(key=lambda term: -abs(term.contribution))
        return ", ".join(f"{term.descriptor} {term.contribution:+.3f}" for term in largest[:SHOWN])

    out.print(
        f"Why {contrast.winner} and not {contrast.rival}: {contrast.difference:+.3f} in all, {told(contrast.winner)}; "
        f"and of the other, {told(contrast.rival)}.",
        highlight=False,
    )


def _drawn(item_name: str, seed: int) -> bytes:
    from retrieval.shop import render

    file = io.BytesIO()
    render(item_name, seed=seed).save(file, "JPEG", quality=90)
    return file.getvalue()
