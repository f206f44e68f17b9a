"""A sweep against what docker/compose.yaml starts: PostgreSQL, S3, MLflow with accounts, Ray."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.machine import lacking
from tests.processes import await_
from tests.tuning.services import Services, postgres_programs, running
from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow

ACCOUNT = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
CLUSTER = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    programs = postgres_programs()
    if programs is None:
        lacking("PostgreSQL (apt-get install postgresql)")
    with running(tmp_path_factory.mktemp("services"), programs) as services:
        yield services


@pytest.fixture
def workplace(
    tmp_path: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workplace]:
    """A user at the head, as `docker compose exec head` makes one."""
    environment = services.environment("head")
    for name in ACCOUNT[1:]:
        # the client that looks at the outcome logs in too
        monkeypatch.setenv(name, environment[name])
    place = Workplace(tmp_path, **{name: environment[name] for name in (*ACCOUNT, *CLUSTER)})
    yield place
    place.close()


def told(services: Services, content: bytes) -> list[str]:
    """The names of the secrets that stand in `content`; who the account is may be known."""
    return [
        name
        for name, secret in services.secrets.items()
        if name != "MLFLOW_USERNAME" and secret.encode() in content
    ]


def leaks(services: Services, folder: Path) -> list[tuple[Path, list[str]]]:
    """The files under `folder` in which secrets stand."""
    found = [(p, told(services, p.read_bytes())) for p in folder.rglob("*") if p.is_file()]
    return [(path, names) for path, names in found if names]


def test_a_sweep_is_tracked_and_no_secret_is_left(services: Services, workplace: Workplace) -> None:
    trials = workplace.write(small_experiment(name="served", methods=["dml", "switokd"])).trials
    sweep = workplace.start("sweep", workplace.file.name)
    tune = workplace.folder / "runs" / "served" / "ray"
    await_(lambda: sweep.poll() is not None or list(tune.glob("experiment_state*")))
    assert not leaks(services, workplace.folder)
    output = sweep.ended(timeout=200)
    assert "View run" not in output
    runs = workplace.trial_runs("served")
    assert set(runs) == {trial.trial_id for trial in trials}
    assert {run.info.status for run in workplace.runs("served")} == {"FINISHED"}
    for run in runs.values():
        assert workplace.series(run)["val_top1/S1"]
        files = {entry.path for entry in workplace.client.list_artifacts(run.info.run_id)}
        assert files == {"spec.yaml", "timeline.parquet", "timeline.png", "weights"}
    tracked = str([run.to_dictionary() for run in workplace.runs("served")])
    assert not told(services, (output + tracked).encode())
    assert not leaks(services, workplace.folder)
    assert not leaks(services, services.temporary / "ray")
    assert not leaks(services, services.folder)


def test_artifacts_lie_in_the_bucket(services: Services, workplace: Workplace) -> None:
    environment = services.environment("bucket")
    store = boto3.client(
        "s3",
        endpoint_url=environment["MLFLOW_S3_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    (bucket,) = services.composed["bucket"]["command"]
    keys = [entry["Key"] for entry in store.list_objects_v2(Bucket=bucket)["Contents"]]
    assert len([key for key in keys if key.endswith("timeline.parquet")]) == 2


def test_health_is_not_that_the_server_answers(services: Services) -> None:
    assert services.check_mlflow() == (0, "")
    status, words = services.check_mlflow(MLFLOW_TRACKING_PASSWORD="wrong")
    assert (status, "status 401" in words) == (1, True), words
    # a name by which the server does not want to be called
    stranger = services.server.uri.replace("127.0.0.1", "localhost")
    status, words = services.check_mlflow(MLFLOW_TRACKING_URI=stranger)
    assert (status, "status 403" in words) == (1, True), words
    assert urllib.request.urlopen(f"{stranger}/health", timeout=10).status == 200


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_URI"),
        ("RAY_AUTH_TOKEN", "RAY_ADDRESS"),
    ],
)
def test_a_wrong_secret_is_one_message(
    services: Services, workplace: Workplace, variable: str, named: str
) -> None:
    # Ray asks every second, twenty times as it comes
    workplace.environment |= {variable: "not-this-one", "RAY_NUM_REDIS_GET_RETRIES": "2"}
    workplace.write(small_experiment(name="refused"))
    output = workplace.sweep(status=2)
    assert named in output.strip().splitlines()[-1]
    assert "Traceback" not in output
    assert not told(services, output.encode())
