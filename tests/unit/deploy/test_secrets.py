"""The folder of the secured compose file: made whole, kept when it is there, closed to others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from streams.acls import WORKERS
from streams.users import passwords_of

COMPOSE = Path(__file__).parents[3] / "deploy" / "compose"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "secrets"
    make(made)
    return made


def make(folder: Path, namespace: str = "tape") -> None:
    script = COMPOSE / "secrets.sh"
    environment = os.environ | {"SESSIONTAPE_NAMESPACE": namespace}
    subprocess.run(["/bin/sh", script, folder], env=environment, check=True, capture_output=True)


def test_each_worker_has_a_user_and_what_signs_it_in(folder: Path) -> None:
    passwords = passwords_of(folder / "passwords")
    assert set(passwords) == {f"tape-{worker}" for worker in WORKERS}
    assert len(set(passwords.values())) == len(WORKERS)
    for worker in WORKERS:
        lines = (folder / f"{worker}.env").read_text("utf-8").splitlines()
        given = dict(line.removeprefix("SESSIONTAPE_").split("=", 1) for line in lines)
        assert given == {
            "SECURITY_PROTOCOL": "SASL_SSL",
            "SASL_MECHANISM": "SCRAM-SHA-512",
            "SASL_USERNAME": f"tape-{worker}",
            "SASL_PASSWORD": passwords[f"tape-{worker}"],
            "SSL_CA_LOCATION": str(folder / "ca.pem"),
        }


def test_what_is_there_is_kept_and_what_is_missing_is_made(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    make(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "kafka.pem").unlink()
    make(folder, "desk")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.keys() == before.keys()
    assert {name for name in before if name.endswith(".pem") and after[name] != before[name]} == {
        "kafka.pem"
    }
    assert after["passwords"].startswith(before["passwords"])
    assert set(passwords_of(folder / "passwords")) == {
        f"{namespace}-{worker}" for namespace in ("tape", "desk") for worker in WORKERS
    }


def test_only_what_containers_are_given_may_be_read_by_whoever_they_run_as(folder: Path) -> None:
    text = (COMPOSE / "sasl.yml").read_text("utf-8")
    services = yaml.safe_load(text)["services"]
    given = {
        mount.split("}/")[1].split(":")[0]
        for service in services.values()
        for mount in service["volumes"]
    }
    assert given == {path.name for path in folder.iterdir() if path.stat().st_mode & 0o077 == 0o044}
    assert {path.name for path in folder.iterdir() if path.stat().st_mode & 0o077 == 0} == {
        "ca.key",
        *(f"{worker}.env" for worker in WORKERS),
    }
    assert folder.stat().st_mode & 0o077 == 0
    # And nothing that is secret stands in the file.
    assert not any(password in text for password in passwords_of(folder / "passwords").values())
    assert "password=" not in text.lower()
