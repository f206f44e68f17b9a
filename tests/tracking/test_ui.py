"""`make ui`: a free port, an address that opens the right view, and links that lead there."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from switokd.tracking import ui
from switokd.tracking.ui import ui_address
from tests.processes import free_port
from tests.shared_folder import put_empty_store


def test_a_taken_port_is_left_to_its_owner_and_links_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_empty_store(tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    taken = free_port()
    monkeypatch.setattr(ui, "FIRST_PORT", taken)
    assert ui_address(uri) == f"http://127.0.0.1:{taken}", "where it would be shown"
    # is set, and taken back at the end of the test
    monkeypatch.setenv(ui.JOBS, "")
    monkeypatch.delenv(ui.JOBS)
    begun: list[list[str]] = []

    def become(program: str, command: list[str]) -> Any:
        begun.append(command)
        assert os.environ[ui.JOBS] == "false"
        raise SystemExit

    monkeypatch.setattr(os, "execv", become)
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(SystemExit):
        ui.main()
    port = int(begun[0][-1])
    assert port > taken
    assert begun[0][-7:-4] == ["ui", "--backend-store-uri", uri]
    assert ui_address(uri) == f"http://127.0.0.1:{port}"
    shown = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    assert capsys.readouterr().out == f"MLflow's UI: {shown}\n"


def test_without_a_store_it_says_what_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(SystemExit, match="run a sweep first"):
        ui.main()
