"""`make dashboard`: on its port, or the next that is free."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest

from dashboards import __main__ as start
from tests.processes import free_port


@pytest.mark.parametrize("asked", [[], ["--server.port=9"]])
def test_a_taken_port_is_left_to_its_owner(
    monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    taken = free_port()
    begun: list[list[str]] = []

    def become(program: str, command: list[str]) -> Any:
        begun.append([each for each in command if each.startswith("--server.port")])

    monkeypatch.setattr(start, "FIRST_PORT", taken)
    monkeypatch.setattr(sys, "argv", ["dashboards", *asked])
    monkeypatch.setattr(os, "execv", become)
    with socket.create_server(("127.0.0.1", taken)):
        start.main()
    ((option,),) = begun
    port = int(option.partition("=")[2])
    assert port == 9 if asked else port > taken
