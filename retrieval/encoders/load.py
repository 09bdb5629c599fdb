"""Find out what kind of encoder a reference names and load it; each kind imports what it needs only then."""

import re
from pathlib import Path
from typing import Literal

from retrieval.encoders.protocol import Encoder
from retrieval.encoders.published import CONFIG_FILE, read_json
from retrieval.errors import EncoderError

ONNX_MANIFEST_FILE = "recollect_onnx.json"
"""What tells an exported encoder from others."""
COMPACT_MODEL_TYPE = "recollect-dual-encoder"
OPEN_CLIP_PREFIX = "open_clip:"
Runtime = Literal["auto", "torch", "onnx"]

_SHIPPED = Path(__file__).parent / "shipped"
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_encoder(
    reference: str | Path,
    *,
    runtime: Runtime = "auto",
    device: str = "cpu",
    allow_download: bool = True,
    threads: int | None = None,
) -> Encoder:
    """The encoder that `reference` names: one that is shipped, a directory of any kind, "open_clip:ARCHITECTURE@FILE",
    or a name on the hub.

    `runtime` "auto" takes what the directory was made for. `threads` are those of ONNX Runtime, all cores unless told;
    torch has the process's. A directory never touches the network. EncoderError says what was expected, what was found
    and what to do.
    """
    directory = Path(reference).expanduser()
    if str(reference) in shipped_encoders():
        directory = _SHIPPED / str(reference)
    if directory.is_dir():
        return _in_directory(directory, runtime, device, threads)
    name = str(reference)
    if runtime == "onnx":
        raise _not_exported(name)
    if name.startswith(OPEN_CLIP_PREFIX):
        from retrieval.encoders.open_clip_adapter import load_open_clip

        return load_open_clip(name.removeprefix(OPEN_CLIP_PREFIX), device=device)
    if directory.exists() or not _HUB_NAME.fullmatch(name):
        raise EncoderError(
            f"encoder must be {' or '.join(shipped_encoders())} (shipped), a directory, "
            f"{OPEN_CLIP_PREFIX}ARCHITECTURE@FILE or a name on the hub such as "
            f"openai/clip-vit-base-patch32, got {name!r}; check the path"
        )
    from retrieval.encoders.hugging_face import load_hugging_face

    return load_hugging_face(name, device=device, allow_download=allow_download)


def shipped_encoders() -> tuple[str, ...]:
    """Names of the encoders that come with Recollect."""
    return tuple(sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir()))


def _in_directory(directory: Path, runtime: Runtime, device: str, threads: int | None) -> Encoder:
    if (directory / ONNX_MANIFEST_FILE).is_file():
        if runtime == "torch" or device != "cpu":
            raise EncoderError(
                f"{directory} was exported for ONNX Runtime on a CPU; name the encoder that it came from"
            )
        from retrieval.encoders.onnx_runtime import OnnxEncoder

        return OnnxEncoder.load(directory, threads=threads)
    if runtime == "onnx":
        raise _not_exported(str(directory))
    if read_json(directory / CONFIG_FILE).get("model_type") == COMPACT_MODEL_TYPE:
        from retrieval.encoders.compact import load_compact

        return load_compact(directory)
    from retrieval.encoders.hugging_face import load_hugging_face

    return load_hugging_face(directory, device=device)


def _not_exported(name: str) -> EncoderError:
    return EncoderError(
        f"{name} must be a directory with {ONNX_MANIFEST_FILE} to run on ONNX Runtime; "
        f"make one with `recollect encoder export {name} --output DIRECTORY`"
    )
