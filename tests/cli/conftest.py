"""How commands are run here."""

import pytest

from appulse.cli import main


def stdout_of(capsys, *arguments) -> str:
    """What the command prints on stdout."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code, ended.value.code
    return capsys.readouterr().out
