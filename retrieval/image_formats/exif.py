"""Read how a picture is to be turned from an EXIF block, and nothing else of it."""

import struct

_ORIENTATION = 0x0112
_SHORT = 3
_MOST_ENTRIES = 1_000


def orientation(exif: bytes) -> int:
    """The orientation in the first directory of a TIFF structure, 1 to 8; 1 where there is none that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(min(entries, _MOST_ENTRIES)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, directory + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
