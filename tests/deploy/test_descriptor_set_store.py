"""The store of descriptor sets: what is accepted stays, who is late learns of it, and nothing deleted comes back."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from recollect.classification.store import KEPT_REVISIONS, DescriptorSetStore, is_set_name
from recollect.errors import ArtifactError
from recollect.gateway.errors import AlreadyExists, Conflict, NotFound, ShippedSet
from retrieval.descriptors.descriptor_set import DescriptorSet

ENCODER = "0123456789abcdef"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "sets"


@pytest.fixture
def store(root):
    return DescriptorSetStore(root)


def described(*descriptors, name="mine", **fields):
    return DescriptorSet.from_mapping(name, {"mug": descriptors, "jar": ["a lid"]}, **fields)


def test_what_is_accepted_is_there_for_another_process(store, root):
    descriptors = described("a handle", "", "a handle", prefix="a photo of a ", suffix=".")
    revision = store.create(descriptors)
    assert (revision.number, revision.classes, revision.texts, revision.shipped) == (1, 2, 2, False)
    other = DescriptorSetStore(root)
    assert other.newest("mine") == revision
    assert other.content("mine", revision.etag) == descriptors
    assert "mine" in other.names()


def test_creating_the_same_again_returns_it_and_something_else_is_refused(store):
    revision = store.create(described("a handle"))
    assert store.create(described("a handle")) == revision
    with pytest.raises(AlreadyExists, match="'mine' already") as refused:
        store.create(described("a spout"))
    assert refused.value.metadata == {"etag": revision.etag}
    assert store.newest("mine") == revision


def test_an_update_needs_the_etag_of_now_and_a_refused_one_changes_nothing(store):
    first = store.create(described("a handle"))
    second = store.update(described("a spout"), first.etag)
    assert second.number == 2
    with pytest.raises(Conflict, match=f"is {second.etag}, not '{first.etag}'") as refused:
        store.update(described("a straw"), first.etag)
    assert refused.value.metadata == {"etag": second.etag}
    assert store.newest("mine") == second
    assert store.content("mine", second.etag) == described("a spout")


def test_a_repeated_update_is_accepted_once(store):
    first = store.create(described("a handle"))
    second = store.update(described("a spout"), first.etag)
    assert store.update(described("a spout"), first.etag) == second


def test_of_writers_with_the_same_etag_one_wins(store, root):
    etag = store.create(described("a handle")).etag
    start, outcomes = threading.Barrier(8), Counter()

    def write(number):
        start.wait()
        try:
            DescriptorSetStore(root).update(described(f"idea {number}"), etag)
            outcomes["accepted"] += 1
        except Conflict:
            outcomes["refused"] += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert outcomes == {"accepted": 1, "refused": 7}
    assert store.newest("mine").number == 2


ADD_TEN = """
import sys
from pathlib import Path
from recollect.classification.store import DescriptorSetStore
from recollect.gateway.errors import Conflict
from retrieval.descriptors.descriptor_set import DescriptorSet

store, writer = DescriptorSetStore(Path(sys.argv[1])), sys.argv[2]
for number in range(10):
    while True:
        newest = store.newest("mine")
        known = store.content("mine", newest.etag).classes[0].descriptors
        try:
            store.update(DescriptorSet.from_mapping("mine", {"mug": [*known, f"{writer} {number}"]}), newest.etag)
            break
        except Conflict:
            pass
"""


def test_two_processes_that_repeat_what_was_refused_lose_no_change(store, root):
    store.create(DescriptorSet.from_mapping("mine", {"mug": []}))
    writers = [subprocess.Popen([sys.executable, "-c", ADD_TEN, root, name]) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    newest = store.newest("mine")
    found = store.content("mine", newest.etag).classes[0].descriptors
    assert sorted(found) == sorted(f"{name} {number}" for name in ("one", "two") for number in range(10))
    assert newest.number == 21


def test_a_deleted_set_is_gone_and_its_numbers_are_not_used_again(store):
    first = store.create(described("a handle"))
    store.mark_ready(first, ENCODER)
    store.delete("mine", first.etag)
    assert store.ready("mine", ENCODER) is None
    assert "mine" not in store.names()
    assert list((store.root / "mine" / "revisions").iterdir()) == []
    with pytest.raises(NotFound, match="no descriptor set 'mine'"):
        store.newest("mine")
    again = store.create(described("a handle"))
    assert again.number == 2
    assert again.etag != first.etag


@pytest.mark.parametrize("recreated", [False, True], ids=["only deleted", "deleted and created anew"])
def test_what_was_prepared_before_a_deletion_does_not_answer_after_it(store, recreated):
    first = store.create(described("a handle"))
    store.delete("mine")
    if recreated:
        store.create(described("a spout"))
    store.mark_ready(first, ENCODER)
    assert store.ready("mine", ENCODER) is None


def test_a_deletion_with_an_old_etag_is_refused_and_a_repeated_one_is_not(store):
    first = store.create(described("a handle"))
    second = store.update(described("a spout"), first.etag)
    with pytest.raises(Conflict):
        store.delete("mine", first.etag)
    store.delete("mine", second.etag)
    store.delete("mine", second.etag)
    store.delete("mine")
    with pytest.raises(NotFound):
        store.delete("mine", first.etag)
    with pytest.raises(NotFound):
        store.delete("yours")


def test_a_missing_set_is_answered_with_names_that_come_close(store):
    for name in ("kitchen", "garden"):
        store.create(described("a handle", name=name))
    with pytest.raises(NotFound, match="no descriptor set 'kitchn'; there is 'kitchen' and"):
        store.newest("kitchn")
    with pytest.raises(NotFound):
        store.update(described("a handle", name="kitchn"), "1-0")


def test_a_shipped_set_is_copied_by_an_update_and_comes_back(store):
    shipped = store.newest("grocery")
    assert shipped.shipped
    assert shipped.number == 0
    content = store.content("grocery", shipped.etag)
    with pytest.raises(ShippedSet, match="update it to use a copy"):
        store.delete("grocery")
    with pytest.raises(AlreadyExists):
        store.create(described("a handle", name="grocery"))
    assert store.create(content) == shipped
    copy = store.update(described("a handle", name="grocery"), shipped.etag)
    assert (copy.number, copy.shipped) == (1, False)
    assert store.content("grocery", copy.etag) == described("a handle", name="grocery")
    store.delete("grocery", copy.etag)
    store.delete("grocery", copy.etag)
    with pytest.raises(ShippedSet):
        store.delete("grocery")
    assert store.newest("grocery") == shipped


def test_a_newer_revision_is_not_replaced_by_one_that_was_prepared_more_slowly(store):
    first = store.create(described("a handle"))
    second = store.update(described("a spout"), first.etag)
    store.mark_ready(second, ENCODER)
    store.mark_ready(first, ENCODER)
    assert store.ready("mine", ENCODER) == second.etag


def test_an_older_revision_answers_until_the_newest_does(store):
    first = store.create(described("a handle"))
    store.mark_ready(first, ENCODER)
    second = store.update(described("a spout", "a straw"), first.etag)
    store.note_progress(second, ENCODER, 2)
    standing = store.standing("mine", ENCODER)
    assert (standing.revision, standing.serving_etag, standing.embedded, standing.ready) == (
        second,
        first.etag,
        2,
        False,
    )
    store.mark_ready(second, ENCODER)
    assert store.standing("mine", ENCODER).ready
    assert not store.standing("mine", "another-encoder").ready


def test_a_crash_before_a_revision_is_named_leaves_the_one_before(store, root, monkeypatch):
    first = store.create(described("a handle"))
    write = store._write

    def dies(name, file, text, **options):
        if file == "current":
            raise KeyboardInterrupt
        write(name, file, text, **options)

    monkeypatch.setattr(store, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        store.update(described("a spout"), first.etag)
    after = DescriptorSetStore(root)
    assert after.newest("mine") == first
    second = after.update(described("a straw"), first.etag)
    assert after.content("mine", second.etag) == described("a straw")


def test_each_file_is_on_disk_before_it_gets_its_name(store, monkeypatch):
    done = []
    fsync = os.fsync

    def synced(descriptor):
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    revision = store.create(described("a handle"))
    home = str(store.root / "mine")
    assert done[-4:] == [
        f"{home}/revisions/.{revision.etag}.json.partial",
        f"{home}/revisions",
        f"{home}/.current.partial",
        home,
    ]


def test_an_altered_revision_is_not_used(store, root):
    revision = store.create(described("a handle"))
    path = root / "mine" / "revisions" / f"{revision.etag}.json"
    path.write_text(path.read_text().replace("a handle", "a hangle"))
    with pytest.raises(ArtifactError, match="is altered"):
        store.content("mine", revision.etag)


def test_old_revisions_are_removed_except_those_that_answer(store):
    etags = [store.create(described("idea 0")).etag]
    store.mark_ready(store.newest("mine"), ENCODER)
    for number in range(1, KEPT_REVISIONS + 3):
        etags.append(store.update(described(f"idea {number}"), etags[-1]).etag)
    with pytest.raises(FileNotFoundError):
        store.content("mine", etags[1])
    assert store.content("mine", etags[0]) == described("idea 0")
    assert store.content("mine", etags[-KEPT_REVISIONS]) == described("idea 3")


HOLD = """
import sys, time
from pathlib import Path
from recollect.classification.store import DescriptorSetStore

held = DescriptorSetStore(Path(sys.argv[1])).preparing("mine", sys.argv[2])
print(held is not None, flush=True)
time.sleep(60)
"""


def test_the_right_to_prepare_a_set_is_one_processs_and_ends_with_it(store, root):
    store.create(described("a handle"))
    holder = subprocess.Popen([sys.executable, "-c", HOLD, root, ENCODER], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "True\n"
        assert store.preparing("mine", ENCODER) is None
        with store.preparing("mine", "another-encoder") as another:
            assert another is not None
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
    with store.preparing("mine", ENCODER) as mine:
        assert mine is not None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../mine", "a/b", "/etc", ".hidden", "a b", "a\x00b", "a\n", "é", "x" * 101],
    ids=repr,
)
def test_a_name_that_is_none_never_reaches_the_file_system(store, root, name):
    assert not is_set_name(name)
    uses = (store.newest, store.delete, lambda name: store.ready(name, ENCODER), lambda name: store.content(name, "1"))
    for use in uses:
        with pytest.raises(ValueError, match="no name of a descriptor set"):
            use(name)
    assert not root.exists()
