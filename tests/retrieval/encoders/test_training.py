"""Training the compact encoder: which captions belong to what, the loss, and runs that end the same after a kill."""

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from retrieval.descriptors.dataset import read_images
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.compact import load_compact
from retrieval.encoders.protocol import embed_images
from retrieval.encoders.training.augmentation import Augmentation
from retrieval.encoders.training.captions import CaptionedImages, caption_labels, read_captions
from retrieval.encoders.training.config import EncoderTrainConfig, preset, with_overrides
from retrieval.encoders.training.loop import train
from retrieval.encoders.training.objective import contrastive_loss
from retrieval.encoders.training.pixel_cache import pixel_cache
from retrieval.encoders.training.run_directory import claim
from retrieval.errors import DatasetError, EncoderError, RunError
from retrieval.runs.precision import Precision
from retrieval.runs.schedule import learning_rate

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 210)}
SHAPES = ("disc", "bar")
TINY = EncoderTrainConfig(
    image_size=32,
    widths=(16, 32),
    word_dim=16,
    dimension=16,
    epochs=20,
    batch_size=17,
    augmentation=Augmentation(least_scale=0.8, most_turn=5, light=0.1),
    precision=Precision.FLOAT32,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(colour, shape, seed):
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (48, 40), tuple(generator.integers(180, 256, 3).tolist()))
    x, y = generator.integers(10, 20, 2).tolist()
    pen = ImageDraw.Draw(image)
    if shape == "disc":
        pen.ellipse((x, y, x + 18, y + 16), fill=COLOURS[colour])
    else:
        pen.rectangle((x - 6, y + 6, x + 24, y + 10), fill=COLOURS[colour])
    return image


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Pictures of six things with captions of two words each."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = ["image,caption"]
    for colour in COLOURS:
        for shape in SHAPES:
            for copy in range(12):
                name = f"{colour}-{shape}-{copy}.png"
                draw(colour, shape, [copy, len(rows)]).save(folder / name)
                rows += [f"{name},a {colour} {shape}", f'{name},"something, which is {colour}"']
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    return train(read_captions(table), TINY, run)


def test_pictures_with_the_same_caption_share_it(table):
    data = read_captions(table)
    assert len(data.paths) == 72
    assert len(data.captions) == 6 + 3
    assert [data.captions[at] for at in data.own[0]] == ["a red disc", "something, which is red"]
    assert data.own[0] == data.own[11]
    assert CaptionedImages.from_json(data.to_json()) == data


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("file,text\na.png,red\n", "columns image and caption", id="other columns"),
        pytest.param("image,caption\na.png,red\nb.png,\n", "line 3", id="an empty caption"),
        pytest.param("image,caption\na.png,red\n", "at least two", id="one picture"),
        pytest.param("image,caption\na.png,red\nb.png,red\n", "same caption", id="one caption for all"),
    ],
)
def test_a_table_that_teaches_nothing_is_refused(tmp_path, text, says):
    (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(DatasetError, match=says):
        read_captions(tmp_path / "captions.csv")


def labelled(tmp_path, *labels):
    for label in labels:
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "one.png")
    return read_images(tmp_path)


FRUIT = DescriptorSet.from_mapping(
    "fruit", {"Green Apple": ["a fruit", "green skin"], "Lime": ["green skin"], "Kiwi": []}
)


def test_labels_are_captioned_by_name_with_and_without_their_descriptors(tmp_path):
    data = caption_labels(labelled(tmp_path, "green-apple", "kiwi"), FRUIT)
    assert {data.captions[at] for at in data.own[0]} == {
        "Green Apple",
        "a photo of a Green Apple.",
        "Green Apple, which is a fruit",
        "Green Apple, which has green skin",
        "a product, which is a fruit",
        "a product, which has green skin",
    }
    assert {data.captions[at] for at in data.own[1]} == {"Kiwi", "a photo of a Kiwi."}


def test_a_class_held_out_leaves_no_picture_and_no_text(tmp_path):
    data = caption_labels(labelled(tmp_path, "green-apple", "kiwi", "lime"), FRUIT, hold_out=["lime"])
    assert [path.parent.name for path in data.paths] == ["green-apple", "kiwi"]
    assert not [text for text in data.captions if "Lime" in text]


@pytest.mark.parametrize(
    ("labels", "hold_out", "says"),
    [
        pytest.param(["kiwi", "pear"], [], "no class for pear", id="a label without a description"),
        pytest.param(["kiwi", "lime"], ["Green Apple"], "Green Apple", id="nothing to hold out"),
    ],
)
def test_labels_and_descriptions_must_fit(tmp_path, labels, hold_out, says):
    with pytest.raises(DatasetError, match=says):
        caption_labels(labelled(tmp_path, *labels), FRUIT, hold_out=hold_out)


def test_the_loss_of_a_hand_worked_case():
    # Two pictures along the axes; captions 0 and 1 are the first picture's, caption 2 the second's, caption 3 nobody's.
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    own = torch.tensor([[True, True, False, False], [False, False, True, False]])
    first = -(1 - math.log(2 * math.e + 2))  # logits 1, 1, 0, 0: both own ones have the same share
    second = -(1 - math.log(2 + math.e + 1 / math.e))  # logits 0, 0, 1, −1
    back = -(1 - math.log(math.e + 1))  # each of the captions 0, 1, 2: logits 1 and 0
    expected = ((first + second) / 2 + back) / 2
    loss = contrastive_loss(images, texts, own, torch.tensor(1.0))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_with_one_caption_a_picture_the_loss_is_that_of_clip():
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(5, 8, generator=generator), dim=1) for _ in range(2))
    logits = 7.0 * images @ texts.T
    right = torch.arange(5)
    expected = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    loss = contrastive_loss(images, texts, torch.eye(5, dtype=torch.bool), torch.tensor(7.0))
    torch.testing.assert_close(loss, expected)


def test_the_step_size_rises_and_falls():
    sizes = [learning_rate(1.0, 0.2, step, 10) for step in range(10)]
    assert sizes[:2] == [0.5, 1.0]
    assert all(later < earlier for earlier, later in pairwise(sizes[1:]))
    assert 0 < sizes[-1] < 0.05


def test_augmentation_changes_every_picture_its_own_way_and_the_same_for_the_same_generator():
    pixels = torch.from_numpy(np.asarray(draw("red", "bar", 0).resize((40, 40)))[None].repeat(3, 0))
    ways = Augmentation()
    first, again, other = (ways.apply(pixels, 32, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (3, 3, 32, 32)
    assert first.min() >= 0
    assert first.max() <= 1
    torch.testing.assert_close(first, again)
    assert (first[0] - first[1]).abs().mean() > 0.01
    assert (first - other).abs().mean() > 0.01


def test_augmentation_of_nothing_shows_the_photo_itself():
    pixels = torch.from_numpy(np.asarray(draw("red", "bar", 0).resize((32, 32)))[None].copy())
    still = Augmentation(least_scale=1, most_stretch=1, most_turn=0, light=0, mirror=False)
    shown = still.apply(pixels, 32, torch.Generator().manual_seed(0))
    torch.testing.assert_close(shown, pixels.permute(0, 3, 1, 2) / 255, atol=1e-5, rtol=0)


def test_pictures_that_cannot_be_used_are_named_and_left_out(tmp_path):
    paths = []
    for at in range(4):
        paths.append(tmp_path / f"{at}.png")
        draw("red", "disc", at).save(paths[-1])
    paths[2].write_bytes(b"no picture")
    cache = pixel_cache(paths, tmp_path / "pixels", image_size=24)
    assert cache.usable.tolist() == [0, 1, 3]
    assert list(cache.refused) == [2]
    assert cache.take(np.array([3, 0])).shape == (2, 28, 28, 3)
    paths[1].unlink()  # decoded already: not read again
    assert pixel_cache(paths, tmp_path / "pixels", image_size=24).usable.tolist() == [0, 1, 3]


def test_mostly_unusable_pictures_are_an_error(tmp_path):
    with pytest.raises(DatasetError, match="2 of 2 pictures"):
        pixel_cache([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "pixels", image_size=24)


def test_a_trained_encoder_tells_new_pictures_by_words_in_a_combination_of_its_own(trained):
    encoder = load_compact(trained)
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    images = embed_images(encoder, [draw(*kind, [99, at]) for at, kind in enumerate(kinds * 4)])
    texts = encoder.embed_texts([f"{shape} {colour}" for colour, shape in kinds])
    right = (images @ texts.T).argmax(1) == np.arange(len(images)) % len(kinds)
    assert right.mean() > 0.8


def test_the_model_directory_says_how_and_on_what_it_was_trained(trained, table):
    config = json.loads((trained / "config.json").read_text())
    assert EncoderTrainConfig.from_json(json.dumps(config["training"])) == TINY
    assert (config["data"]["pictures"], config["data"]["captions"]) == (72, 9)
    validation = json.loads((trained / "metrics.json").read_text())["validation"]
    assert validation["pictures"] == 4
    assert 0 <= validation["recall_at_1"] <= 1
    left = {path.name for path in trained.parent.iterdir()}
    assert left == {"config.json", "lock", "log.jsonl", "model", "pairs.json"}


def test_a_run_that_was_killed_goes_on_to_the_same_weights(trained, table, tmp_path):
    class KilledError(Exception):
        pass

    def kill(step, _total):
        if step == 9:  # in the middle of an epoch, a step after the checkpoint
            raise KilledError

    data = read_captions(table)
    with pytest.raises(KilledError):
        train(data, TINY, tmp_path, on_step=kill)
    seen = []
    model = train(data, TINY, tmp_path, on_step=lambda step, _total: seen.append(step))
    assert seen[0] == 9
    assert (model / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_a_finished_run_is_not_trained_again(trained, table):
    def never(step, _total):
        raise AssertionError(step)

    assert train(read_captions(table), TINY, trained.parent, on_step=never) == trained


def test_a_run_directory_belongs_to_its_options(trained, table):
    with pytest.raises(RunError, match="other options"):
        train(read_captions(table), with_overrides(TINY, seed=5), trained.parent)


def test_a_run_directory_belongs_to_the_pictures_that_were_there(table, tmp_path):
    copied = Path(shutil.copytree(table.parent, tmp_path / "pictures")) / table.name
    claim(tmp_path / "run", TINY, read_captions(copied))
    claim(tmp_path / "run", TINY, read_captions(copied))
    draw("green", "bar", 7).save(copied.parent / "red-disc-0.png")
    with pytest.raises(RunError, match="other data"):
        claim(tmp_path / "run", TINY, read_captions(copied))


def test_captions_beyond_the_limit_are_drawn_and_training_still_works(table, tmp_path):
    few = with_overrides(TINY, captions_a_step=4, epochs=1)
    assert train(read_captions(table), few, tmp_path).is_dir()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("epochs", 0, id="no epochs"),
        pytest.param("batch_size", 1, id="nothing to tell apart"),
        pytest.param("learning_rate", 0.0, id="no step"),
        pytest.param("learning_rate", math.nan, id="a rate of NaN"),
        pytest.param("weight_decay", math.inf, id="no end of decay"),
        pytest.param("seed", -1, id="a seed below 0"),
        pytest.param("seed", 2**63, id="a seed that torch does not take"),
        pytest.param("validation_share", 1.0, id="nothing left to train on"),
    ],
)
def test_a_configuration_that_cannot_work_names_the_field(field, value):
    with pytest.raises(EncoderError, match=field):
        with_overrides(TINY, **{field: value})


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(EncoderError, match="demo-shop, photos"):
        preset("nothing")
