"""What it costs to refuse each hostile file: wall time, and memory beyond what the process had before.

    python -m retrieval.benchmarks.hostile_images [--repeat 3] [--json]

Each file is given, repeatedly, to a fresh copy of this process (a fork, after all imports), decoded as a service would.
The times are the shortest of the repetitions, the memory the most that the copy ever held (Linux: VmHWM) less what it
began with. The exit status is 1 where a file is accepted, refused for another reason, or costs more than is promised.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import PIL

from retrieval.benchmarks.hostile_files import HostileFile, good_file, hostile_files
from retrieval.errors import ImageRefused
from retrieval.images import decode_image

MOST_MS, MOST_MB = 100.0, 64.0
"""What is promised, on a core that nothing else uses: decoding is one thread, whose CPU time is its wall time there."""
_TARGET = (224, 224)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(file: HostileFile, repeat: int) -> dict[str, object]:
    """One row: name, bytes, reason, milliseconds of wall and CPU time, megabytes."""
    content = file.make()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            json.dump(_refuse(content, repeat), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = json.load(pipe)
    os.waitpid(child, 0)
    kept = found["reason"] == file.reason and found["cpu_ms"] <= MOST_MS and found["mb"] <= MOST_MB
    return {"file": file.name, "bytes": len(content), **found, "kept": kept}


def _refuse(content: bytes, repeat: int) -> Mapping[str, object]:
    _CLEAR.write_text("5")  # the highest memory so far is forgotten
    before = _memory("VmRSS")
    wall, cpu = [], []
    reason, message = "ACCEPTED", ""
    for _ in range(repeat):
        began, worked = time.perf_counter(), time.process_time()
        try:
            decode_image(content, target=_TARGET)
        except ImageRefused as error:
            reason, message = error.reason.value, str(error)
        wall.append(1e3 * (time.perf_counter() - began))
        cpu.append(1e3 * (time.process_time() - worked))
    megabytes = (_memory("VmHWM") - before) * 1_024 / 1e6
    times = {"ms": round(min(wall), 1), "cpu_ms": round(min(cpu), 1)}
    return {"reason": reason, **times, "mb": round(megabytes, 1), "message": message}


def _memory(what: str) -> int:
    """KiB of this process, by its name in /proc."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(what))
    return int(line.split()[1])


def main() -> int:
    """Measure every file and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    decode_image(good_file())  # what the first picture costs once is no file's fault
    rows = [measure(file, options.repeat) for file in hostile_files()]
    if options.json:
        for row in rows:
            print(json.dumps(row))
    else:
        _print(rows)
    return 0 if all(row["kept"] for row in rows) else 1


def _print(rows: list[dict[str, object]]) -> None:
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}, "
        f"Pillow {PIL.__version__}: {len(rows)} files, all refused as promised: {all(row['kept'] for row in rows)}\n"
    )
    print("| file | bytes | reason | ms | CPU ms | MB |\n|---|---:|---|---:|---:|---:|")
    for row in rows:
        print(f"| {row['file']} | {row['bytes']:,} | {row['reason']} | {row['ms']} | {row['cpu_ms']} | {row['mb']} |")


if __name__ == "__main__":
    sys.exit(main())
