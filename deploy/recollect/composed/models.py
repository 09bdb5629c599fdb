"""Say which model of composed retrieval it is, without giving paths of this machine away."""

from pathlib import Path

from recollect.settings import Settings


def shown_model(settings: Settings, path: str) -> str:
    """What callers are told: name/version for a published model, a directory's own name, a hub name as it is."""
    directory = Path(path)
    if not directory.is_dir():
        return path
    models = settings.var.resolve() / "models"
    return directory.relative_to(models).as_posix() if directory.is_relative_to(models) else directory.name
