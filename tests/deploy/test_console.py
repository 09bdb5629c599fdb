"""What reaches a person: text as it is, and one line for an error that can be mended."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from recollect.cli import console
from recsys.errors import DataError


def test_brackets_are_text_and_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table("[t]", ["name"], [["[bold]item[/]"], ["a[1]"]])
    printed = capsys.readouterr().out
    assert "[t]" in printed
    assert "[bold]item[/]" in printed
    assert "a[1]" in printed


def test_lines_are_text_too(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print("kept in sh[o]p/[bold], by u:key:1", soft_wrap=True)
    console.show_table(":key:", [":key:"], [["u:key:1"]])
    printed = capsys.readouterr().out
    assert printed.startswith("kept in sh[o]p/[bold], by u:key:1\n")
    assert printed.count(":key:") == 4


def test_an_error_that_can_be_mended_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @console.explains_errors
    def command() -> None:
        raise DataError("column [/x] is missing; name it")

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "error: column [/x] is missing; name it\n"


@pytest.mark.parametrize(
    ("doing", "told"),
    [
        (lambda _: Path("/dev/full").write_text("a"), "No space left on device; make room and repeat"),
        (
            lambda at: (at / "none" / "file").write_text("a"),
            "{at}/none/file: No such file or directory; check the path",
        ),
        (lambda at: at.read_text(), "{at}: Is a directory; name a file"),
        (lambda at: (at / ("a" * 300)).touch(), f"{{at}}/{'a' * 300}: File name too long"),
    ],
    ids=["a full disk", "no folder", "a folder", "a long name"],
)
def test_what_the_system_refuses_is_one_line_with_what_helps(
    doing: Callable[[Path], object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        console.explains_errors(doing)(tmp_path)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == f"error: {told.format(at=tmp_path)}\n"


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError("of a library")])
def test_a_pipe_that_nobody_reads_and_what_no_system_said_are_left_to_others(error: OSError) -> None:
    @console.explains_errors
    def command() -> None:
        raise error

    with pytest.raises(OSError, match=r"Broken pipe|of a library"):
        command()


def test_a_bug_keeps_its_trace() -> None:
    @console.explains_errors
    def command() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        command()


def test_a_wrong_setting_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from recollect.settings import Settings

    monkeypatch.setenv("RECOLLECT_PORT", "70000")
    with pytest.raises(typer.Exit):
        console.explains_errors(Settings.load)()
    assert "error: port: Input should be less than or equal to 65535, got '70000'" in capsys.readouterr().err


def test_settings_come_from_the_command_line_then_the_environment_then_secrets_then_the_file(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recollect.settings import Settings

    (tmp_path / "recollect.toml").write_text('port = 1\nreplicas = 1\nllm_api_key = "file"\nhost = "file"\n')
    (tmp_path / "secrets").mkdir()
    for name, value in (("port", "4"), ("replicas", "4"), ("llm_api_key", "sk-secret\n")):
        (tmp_path / "secrets" / f"recollect_{name}").write_text(value)
    (tmp_path / "secrets" / "of_others").write_text("no setting")
    monkeypatch.setenv("RECOLLECT_CONFIG", str(tmp_path / "recollect.toml"))
    monkeypatch.setenv("RECOLLECT_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setenv("RECOLLECT_PORT", "2")
    monkeypatch.setenv("RECOLLECT_REPLICAS", "2")
    settings = Settings.load(port=3, replicas=None)
    assert (settings.port, settings.replicas, settings.host) == (3, 2, "file")
    assert settings.llm_api_key is not None
    assert settings.llm_api_key.get_secret_value() == "sk-secret"


def test_secrets_that_are_not_mounted_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recollect.settings import Settings

    monkeypatch.setenv("RECOLLECT_SECRETS", str(tmp_path / "secrets"))
    with pytest.raises(typer.Exit):
        console.explains_errors(Settings.load)()
    said = "".join(capsys.readouterr().err.split())
    assert f"RECOLLECT_SECRETSis{tmp_path}/secrets,whichisnodirectory" in said


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param("llm_apikey", 'llm_apikey = "sk-secret"', id="misspelt"),
        pytest.param("llm_api_key", 'llm_api_key = ["sk-secret"]', id="of another type"),
    ],
)
def test_a_key_is_never_shown(
    name: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recollect.settings import Settings

    (tmp_path / "settings.toml").write_text(line)
    monkeypatch.setenv("RECOLLECT_CONFIG", str(tmp_path / "settings.toml"))
    with pytest.raises(typer.Exit):
        console.explains_errors(Settings.load)()
    said = capsys.readouterr().err
    assert name in said
    assert "sk-secret" not in said
