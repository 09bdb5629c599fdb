"""What a run directory of the compact encoder holds beside what each holds: its pictures and captions."""

import json
from pathlib import Path

from retrieval.encoders.training.captions import CaptionedImages
from retrieval.encoders.training.config import EncoderTrainConfig
from retrieval.runs import directory

PAIRS_FILE = "pairs.json"


def claim(run: Path, config: EncoderTrainConfig, data: CaptionedImages) -> None:
    """Mark a new run directory as this configuration's and data's, or make sure that it is; RunError where not."""
    identity = {"training": json.loads(config.to_json()), "data": data.digest}
    directory.claim(run, identity, files={PAIRS_FILE: data.to_json()})


def read_claim(run: Path) -> tuple[EncoderTrainConfig, CaptionedImages]:
    """What `claim` wrote, for a worker of another process."""
    config = directory.read_claim(run)["training"]
    return EncoderTrainConfig.from_json(json.dumps(config)), CaptionedImages.from_json((run / PAIRS_FILE).read_text())
