"""The README's search runs as it stands there."""

import re
from pathlib import Path

from PIL import Image

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_search_example_runs(start_searching, make_gallery, tmp_path, monkeypatch, capsys):
    make_gallery("shop")
    Image.effect_noise((240, 260), 80).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (example,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
        if "search_composed" in block
    )
    exec(compile(example.replace("localhost:50051", start_searching().address), "README.md", "exec"), {})
    assert re.fullmatch(r"\(\d+\.\d+,\) \[\('\d\.png', -?\d\.\d+\),.*\]\n", capsys.readouterr().out)
