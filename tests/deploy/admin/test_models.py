"""Versions of models over the wire, and a recommender that goes with the label that it follows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.admin.models import FollowedModel
from recollect.admin.server import RunningAdmin
from recollect.artifacts import ArtifactStore
from recollect.errors import ArtifactError
from recollect_api import Conflict, NotFound, NotPossible, RecollectClient
from recollect_api.admin import AdminClient

Save = Callable[[int], str]


class Recommender:
    """Answers with what it was last swapped to; versions in `broken` cannot be loaded."""

    def __init__(self) -> None:
        self.swaps: list[str] = []
        self.broken: set[str] = set()

    def swap(self, reference: str) -> None:
        if reference in self.broken:
            raise ArtifactError(f"cannot load {reference}")
        self.swaps.append(reference)


@pytest.fixture
def recommender() -> Recommender:
    return Recommender()


@pytest.fixture
def admin(start_admin: Callable[..., RunningAdmin], recommender: Recommender) -> AdminClient:
    followed = FollowedModel.of("dare@stable", recommender.swap)
    return AdminClient(start_admin(followed=followed).address)


@pytest.mark.parametrize("reference", ["dare/20260101T000000-00000000", "var/model", None])
def test_what_names_no_label_is_not_followed(reference: str | None, recommender: Recommender) -> None:
    assert FollowedModel.of(reference, recommender.swap) is None


def test_versions_are_listed_with_what_they_reached(admin: AdminClient, save_model_version: Save, var: Path) -> None:
    versions = [save_model_version(seed) for seed in (1, 2)]
    ArtifactStore(var / "models").set_label("dare", "canary", versions[1])
    found = {each.version: each for each in admin.model_versions(page_size=1)}
    assert set(found) == set(versions)
    assert (found[versions[0]].metrics, found[versions[1]].labels) == ({"auc": 0.51}, ("canary",))
    # Of a path only its last part: where the service keeps its data is its own business.
    assert found[versions[0]].parents == {"store": "shop", "run": "run-1"}
    assert admin.list_model_versions("dare").versions == tuple(found[each] for each in sorted(found))
    admin.verify_model("dare", versions[0])
    path = var / "models" / "dare" / versions[0] / "metrics.json"
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(NotPossible, match=r"metrics\.json is altered") as damaged:
        admin.verify_model("dare", versions[0])
    assert damaged.value.reason == "VERSION_DAMAGED"
    with pytest.raises(NotPossible):
        admin.activate_model("dare", versions[0])


def test_the_recommender_goes_with_its_label_and_no_other(
    admin: AdminClient, recommender: Recommender, save_model_version: Save, var: Path
) -> None:
    first, second = save_model_version(1), save_model_version(2)
    moved = admin.activate_model("dare", first, expected_version="")
    assert (moved.before, moved.answers) == ("", True)
    assert admin.activate_model("dare", second, label="canary").answers is False
    moved = admin.activate_model("dare", second, expected_version=first)
    assert (moved.before, moved.answers) == (first, True)
    back = admin.roll_back_model("dare")
    assert (back.version, back.before, back.answers) == (first, second, True)
    assert recommender.swaps == [f"dare/{version}" for version in (first, second, first)]
    assert ArtifactStore(var / "models").labels("dare") == {"canary": second, "stable": first}
    with pytest.raises(NotPossible, match="nothing to roll back to"):
        admin.roll_back_model("dare", label="canary")
    with pytest.raises(NotFound):
        admin.roll_back_model("dare", label="nightly")


def test_what_cannot_be_loaded_changes_nothing(
    admin: AdminClient, recommender: Recommender, save_model_version: Save, var: Path
) -> None:
    first, second = save_model_version(1), save_model_version(2)
    admin.activate_model("dare", first)
    recommender.broken.add(f"dare/{second}")
    with pytest.raises(NotPossible, match="cannot load") as failed:
        admin.activate_model("dare", second)
    assert failed.value.reason == "MODEL_NOT_LOADED"
    with pytest.raises(Conflict) as moved:
        admin.activate_model("dare", second, expected_version=second)
    assert moved.value.current_version == first
    assert recommender.swaps == [f"dare/{first}"]
    assert ArtifactStore(var / "models").labelled("dare", "stable") == first


def test_a_label_moved_at_a_shell_meanwhile_takes_the_recommender_with_it(
    start_admin: Callable[..., RunningAdmin], save_model_version: Save, var: Path
) -> None:
    first, second, third = (save_model_version(seed) for seed in (1, 2, 3))
    store = ArtifactStore(var / "models")
    store.set_label("dare", "stable", first)
    swaps: list[str] = []

    def swap(reference: str) -> None:
        if not swaps:
            store.set_label("dare", "stable", third)  # while the replicas load
        swaps.append(reference)

    followed = FollowedModel(name="dare", label="stable", swap=swap)
    with AdminClient(start_admin(followed=followed).address) as client, pytest.raises(Conflict, match=third):
        client.activate_model("dare", second)
    assert swaps == [f"dare/{second}", f"dare/{third}"]


def test_models_that_nobody_needs_are_removed(admin: AdminClient, save_model_version: Save) -> None:
    first, second = save_model_version(1), save_model_version(2)
    admin.activate_model("dare", second)
    assert admin.remove_unneeded_model_versions("dare", keep=0).removed == (first,)


@pytest.mark.slow
def test_real_replicas_answer_with_what_is_activated(
    ray_node: None,
    history_redis_url: str,
    start_admin: Callable[..., RunningAdmin],
    save_model_version: Save,
    var: Path,
) -> None:
    from recollect import serve_app
    from recollect.settings import Settings

    first, second = save_model_version(1), save_model_version(2)
    ArtifactStore(var / "models").set_label("dare", "stable", first)
    settings = Settings(port=0, replicas=2, var=var, classification=False)
    with serve_app.run(settings, "dare@stable", redis_url=history_redis_url, application="followed") as app:

        def answering() -> set[str]:
            found = set()
            for _ in range(6):
                with RecollectClient(app.address, timeout_s=20, connections=1) as client:
                    found.add(client.score("nobody", [10]).model_version)
            return found

        assert answering() == {first}
        followed = FollowedModel.of("dare@stable", app.swap)
        with AdminClient(start_admin(followed=followed).address) as admin:
            assert admin.activate_model("dare", second).answers
            assert answering() == {second}
            assert admin.roll_back_model("dare").answers
            assert answering() == {first}
