"""Checkpoints on a disk and in an object store: the same behaviour at both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from switokd.files.storage import open_folder
from switokd.session.checkpoint import CheckpointFolder
from switokd.spec.resources import Resources
from switokd.validation import SpecError
from tests.machine import lacking

BUCKET = "switokd-test"


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    """The address of a folder in a real S3 server of this process."""
    if find_spec("moto") is None:
        lacking("moto, an S3 server to test with")
    import boto3
    from moto import server

    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        running.start()
        host, port = running.get_host_and_port()
        boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1"
        ).create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}/sweeps?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
        running.stop()


@pytest.fixture(params=["disk", "address of a disk", "object store"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "disk":
        return tmp_path
    if request.param == "address of a disk":
        return tmp_path.as_uri()
    return str(request.getfixturevalue("object_store"))


def test_the_newest_is_found_by_whoever_looks_and_old_ones_go(base: Path | str) -> None:
    folder = CheckpointFolder(base, "experiment", "0123")
    assert folder.latest() is None
    for step in (9, 10, 11):
        folder.save(step, {"weight": torch.full((4,), float(step))})
    assert len(folder.names()) == 2
    latest = CheckpointFolder(base, "experiment", "0123").latest()
    assert latest is not None
    assert latest["weight"].tolist() == [11.0] * 4
    assert CheckpointFolder(base, "experiment", "4567").latest() is None
    folder.delete()
    assert folder.latest() is None
    folder.delete()


def test_a_damaged_newest_falls_back(base: Path | str, caplog: pytest.LogCaptureFixture) -> None:
    folder = CheckpointFolder(base, "experiment", "damaged")
    folder.save(1, {"step": 1})
    newest = folder.save(2, {"step": 2})
    files = open_folder(base, "experiment", "damaged")
    files.write(newest, files.read(newest)[:-1])
    assert folder.latest() == {"step": 1}
    assert newest in caplog.text
    folder.delete()


def test_a_relative_folder_stays_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = CheckpointFolder("kept", "trial")
    (tmp_path / "elsewhere").mkdir()
    os.chdir("elsewhere")
    folder.save(1, {"step": 1})
    assert list((tmp_path / "kept" / "trial").iterdir())


def test_a_relative_folder_is_no_storage_for_workers_elsewhere() -> None:
    for storage in ("s3://bucket/path", "/mnt/sweeps"):
        assert Resources(storage=storage).storage == storage
    with pytest.raises(ValueError, match="absolute path"):
        Resources(storage="sweeps")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere://bucket/path", "nowhere"),
        ("s3://key:secret@bucket/path", "environment"),
    ],
)
def test_an_address_that_nothing_opens_is_refused(address: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        open_folder(address)
    assert "secret" not in str(error.value)
