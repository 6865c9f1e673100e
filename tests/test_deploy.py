"""What deploy/ promises without being started: nothing open to others, no password, the same commands everywhere."""

import re
from typing import Any

import yaml

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
SECRETS = {"POSTGRES_PASSWORD", "ADMIN_PASSWORD", "SECRET_KEY"}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def pattern() -> dict[str, str]:
    """Every variable of .env.example, those in comments too."""
    return dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))


def test_only_the_server_is_reached_from_outside_and_only_by_loopback() -> None:
    services = compose()
    assert {name: service.get("ports") for name, service in services.items()} == {
        "database": None,
        "server": ["${BIND:-127.0.0.1}:${PORT:-5000}:5000"],
    }
    assert "--app-name=basic-auth" in services["server"]["command"]


def test_secrets_are_asked_for_and_have_no_default() -> None:
    used = re.findall(r"\$\{(\w+)(:[-?])?([^}]*)\}", (DEPLOY / "compose.yaml").read_text())
    assert {name for name, *_ in used} >= SECRETS
    assert {how for name, how, _ in used if name in SECRETS} == {":?"}
    assert {how for name, how, _ in used if name not in SECRETS} == {":-"}
    passed_on = {name for name, value in compose()["server"]["environment"].items() if value is None}
    assert {name for name, *_ in used} | passed_on == pattern().keys()
    assert {value for name, value in pattern().items() if name in SECRETS or "KEY" in name} == {""}


def test_defaults_in_the_pattern_are_those_of_compose() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (DEPLOY / "compose.yaml").read_text()))
    shown = {name: value for name, value in pattern().items() if name in defaults and name != "ARTIFACTS"}
    assert shown == {name: value for name, value in defaults.items() if name != "ARTIFACTS"}


def test_the_documents_command_is_the_composed_one() -> None:
    text = (ROOT / "docs/deploy.md").read_text().replace("\\\n", " ")
    (told,) = re.findall(r"^server/bin/mlflow server (.*)$", text, re.MULTILINE)
    options = dict(option.split("=") for option in told.split())
    composed = dict(option.split("=") for option in compose()["server"]["command"][2:])
    differ = {
        "--host": ("127.0.0.1", "0.0.0.0"),  # noqa: S104  # in its container
        "--artifacts-destination": ("$PWD/artifacts", "${ARTIFACTS:-/srv/artifacts}"),
    }
    assert {name: (options[name], composed[name]) for name in options if options[name] != composed[name]} == differ
    assert options.keys() == composed.keys()
    variables = {name for name, value in compose()["server"]["environment"].items() if value and "$" not in str(value)}
    assert {name for name in variables if name not in text} == set()


def test_the_server_has_the_mlflow_that_trainings_have() -> None:
    pins = [
        re.findall(r"^mlflow==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
        for name in ("requirements.txt", "deploy/requirements.txt")
    ]
    assert pins[0] == pins[1]
