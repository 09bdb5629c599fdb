"""Where the contract is, and how protoc reads it: what the scripts beside this one share."""

import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "proto"


def proto_paths() -> list[str]:
    """Where protoc looks: here, and in googleapis-common-protos, which has one file under another name than the one it
    is imported by."""
    (found,) = (each for each in files("googleapis-common-protos") or () if each.name == "operations_proto.proto")
    operations = Path(str(found.locate()))
    return [
        "--proto_path=.",
        f"--proto_path=google/longrunning/operations.proto={operations}",
        f"--proto_path={operations.parents[2]}",
    ]


def protos() -> list[str]:
    """Every .proto of the contract, by its path below `ROOT`."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("recollect_api/**/*.proto"))


def protoc(*options: str) -> None:
    """Run protoc in `ROOT`; raises CalledProcessError where it finds a mistake, which it has printed."""
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *proto_paths(), *options], cwd=ROOT, check=True)
