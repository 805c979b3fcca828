"""Results in an object store: whole or not at all, the same bytes as a local run, and nothing of the user's replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
import scene_factory as factory
from command_line import PROGRAM, assert_refused, run_here
from s3_server import BUCKET, KEY, SECRET, TOKEN, Asked, S3Server

from geosegsr.errors import ConfigError, GeoSegSRError, JobError, SceneError, StoreError, VerificationError
from geosegsr.pipeline.batch import upscale_batch
from geosegsr.pipeline.report import Report
from geosegsr.pipeline.upscale import upscale
from geosegsr.stores import patience, transfer
from geosegsr.stores.opening import forget_stores

HOW: dict[str, Any] = {"model": "bicubic", "scale": 2, "sensor": "bicubic"}
COMMAND = ("--model", "bicubic", "--scale", 2, "--sensor", "bicubic")
TARGET = f"s3://{BUCKET}/a/out.tif"
PART = 5 << 20


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return factory.write_plain(tmp_path / "in.tif")


@pytest.fixture
def run(tmp_path: Path, scene: Path) -> Callable[..., Report]:
    def call(target: str = TARGET, **options: Any) -> Report:
        return upscale(scene, target, **{**HOW, "scratch": tmp_path / "scratch", **options})

    return call


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_S", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_S", 0.01)


@pytest.fixture
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts so small that a small result has several; moto takes the last of any size, and is told to take all."""
    import moto.s3.models as moto_s3

    monkeypatch.setattr(transfer, "PART_BYTES", 20_000)
    monkeypatch.setattr(moto_s3, "S3_UPLOAD_PART_MIN_SIZE", 1)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("in_parts", [False, True])
def test_the_object_has_the_bytes_of_a_local_run(
    server: S3Server,
    run: Callable[..., Report],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    in_parts: bool,
) -> None:
    if in_parts:
        request.getfixturevalue("_in_parts")
    run(str(tmp_path / "out.tif"), scratch=None)
    report = run()
    assert server.read("a/out.tif") == (tmp_path / "out.tif").read_bytes()
    assert ("PUT partNumber" in server.operations()) is in_parts
    assert (report.path, report.status, report.bytes) == (
        TARGET,
        "done",
        (tmp_path / "out.tif").stat().st_size,
    )
    assert server.stored() == ["a/out.tif"] and server.open_uploads() == []
    assert files_of(tmp_path / "scratch") == []


def test_a_finished_object_is_left_untouched(server: S3Server, run: Callable[..., Report]) -> None:
    made = run()
    server.asked.clear()
    again = run()
    assert (again.status, again.path, again.bytes) == ("skipped", TARGET, made.bytes)
    assert not [asked for asked in server.asked if asked.method not in ("GET", "HEAD")]
    assert run(overwrite=True, resume=False).status == "done"


def test_another_object_is_replaced_only_when_asked(server: S3Server, run: Callable[..., Report]) -> None:
    server.client().put_object(Bucket=BUCKET, Key="a/out.tif", Body=b"the user's")
    with pytest.raises(JobError, match=f"'{TARGET}': it exists. Pass --overwrite"):
        run()
    assert server.read("a/out.tif") == b"the user's"
    assert run(overwrite=True).status == "done"
    with pytest.raises(JobError, match="with other options"):
        run(model="bilinear")


@pytest.mark.parametrize("in_parts", [False, True])
def test_an_object_that_appears_meanwhile_is_not_replaced(
    server: S3Server,
    run: Callable[..., Report],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    in_parts: bool,
) -> None:
    if in_parts:
        request.getfixturevalue("_in_parts")

    def slip_in(asked: Asked, before: int) -> None:
        if asked.method in ("PUT", "POST"):
            server.client().put_object(Bucket=BUCKET, Key="a/out.tif", Body=b"another's")

    server.spoil = slip_in
    with pytest.raises(JobError, match="has appeared since the run began"):
        run()
    assert server.read("a/out.tif") == b"another's"
    assert server.open_uploads() == []
    server.spoil = None
    server.client().delete_object(Bucket=BUCKET, Key="a/out.tif")
    assert run().status == "done"
    assert files_of(tmp_path / "scratch") == []


def test_what_a_run_that_was_killed_at_its_end_left_is_removed(
    server: S3Server, run: Callable[..., Report], tmp_path: Path
) -> None:
    run()
    folder = tmp_path / "scratch" / "s3" / BUCKET / "a"
    folder.mkdir(parents=True)
    for name in ("out.tif", "out.tif.upload", "other.tif"):
        (folder / name).write_bytes(b"left")
    assert run().status == "skipped"
    assert files_of(tmp_path / "scratch") == ["s3/bucket/a/other.tif"]


def test_two_runs_at_once_make_one_object(
    server: S3Server, run: Callable[..., Report], tmp_path: Path
) -> None:
    run(str(tmp_path / "out.tif"), scratch=None)

    def elsewhere(asked: Asked, before: int) -> None:
        if asked.method == "PUT":
            server.client().put_object(
                Bucket=BUCKET, Key="a/out.tif", Body=(tmp_path / "out.tif").read_bytes()
            )

    server.spoil = elsewhere  # another machine has sent the same result first
    assert run().status == "done"
    refused: list[str] = []

    def here(event: Any) -> None:
        if event.stage == "cog":
            with pytest.raises(JobError, match="another run is writing it now") as caught:
                run(model="bilinear", overwrite=True)
            refused.append(str(caught.value))

    server.spoil = None
    run(model="bilinear", overwrite=True, progress=here)
    assert refused


@pytest.mark.usefixtures("_in_parts")
@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(403, "AccessDenied", "do not allow it"), (400, "ExpiredToken", "have expired")],
)
def test_rights_that_are_lost_half_way_leave_no_object(
    server: S3Server, run: Callable[..., Report], tmp_path: Path, status: int, code: str, reason: str
) -> None:
    server.spoil = lambda asked, before: (status, code) if "partNumber=2" in asked.query else None
    with pytest.raises(StoreError, match=f"{reason}.*kept in .*scratch/s3/bucket/a"):
        run()
    assert server.stored() == [] and server.open_uploads() == []
    server.spoil, stages = None, []
    assert run(progress=lambda event: stages.append(event.stage)).status == "done"
    assert "blocks" not in stages and "upload" in stages  # the result was finished, and is only sent
    assert files_of(tmp_path / "scratch") == []


@pytest.mark.usefixtures("_in_parts")
def test_an_upload_that_may_not_be_discarded_any_more_is_discarded_by_the_next_run(
    server: S3Server, run: Callable[..., Report], tmp_path: Path
) -> None:
    lost: list[Asked] = []

    def from_the_second_part_on(asked: Asked, before: int) -> tuple[int, str] | None:
        lost.extend([asked] if "partNumber=2" in asked.query else [])
        return (403, "AccessDenied") if lost and asked.method in ("PUT", "POST", "DELETE") else None

    server.spoil = from_the_second_part_on
    with pytest.raises(StoreError, match="do not allow it"):
        run()
    assert server.stored() == [] and server.open_uploads() == ["a/out.tif"]
    server.spoil = None
    assert run().status == "done"
    assert server.stored() == ["a/out.tif"] and server.open_uploads() == []
    assert files_of(tmp_path / "scratch") == []


@pytest.mark.usefixtures("_in_parts")
def test_a_server_that_starts_again_five_times_costs_time_only(
    server: S3Server, run: Callable[..., Report], tmp_path: Path
) -> None:
    restarts: list[threading.Thread] = []

    def restart(asked: Asked, before: int) -> None:
        if "partNumber" in asked.query and len(restarts) < 5 and not any(r.is_alive() for r in restarts):
            restarts.append(threading.Thread(target=server.restart, args=(0.1,)))
            restarts[-1].start()
            time.sleep(0.1)

    server.spoil = restart
    assert run().status == "done"
    for thread in restarts:
        thread.join()
    run(str(tmp_path / "out.tif"), scratch=None)
    assert server.read("a/out.tif") == (tmp_path / "out.tif").read_bytes()
    assert server.open_uploads() == [] and restarts


@pytest.mark.usefixtures("_in_parts")
def test_throttling_and_lost_answers_change_nothing(
    server: S3Server, run: Callable[..., Report], tmp_path: Path
) -> None:
    server.spoil = lambda asked, before: (503, "SlowDown") if before % 5 in (1, 3) else None
    lost: set[str] = set()

    def each_once(asked: Asked) -> bool:
        known = asked.operation in lost
        lost.add(asked.operation)
        return not known and asked.method in ("PUT", "POST")

    server.lost = each_once
    run()
    run(str(tmp_path / "out.tif"), scratch=None)
    assert server.read("a/out.tif") == (tmp_path / "out.tif").read_bytes()


def test_what_arrives_damaged_is_deleted(
    server: S3Server, run: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geosegsr.stores.s3.S3Store.put", _damaging)
    with pytest.raises(VerificationError, match="not what was sent"):
        run()
    assert server.stored() == []


def _damaging(store: Any, key: str, data: bytes, **_: Any) -> str:
    store.client.put_object(Bucket=store.bucket, Key=key, Body=data[:-1] + b"!")
    return "unknown"


def test_what_gdal_reads_otherwise_is_said(
    server: S3Server, run: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    from geosegsr.raster import cog_published

    seen = cog_published._bytes
    monkeypatch.setattr(
        cog_published, "_bytes", lambda source, window: seen(source, window) + source.name[:4].encode()
    )
    with pytest.raises(VerificationError, match="what GDAL reads"):
        run()


def test_the_item_and_its_pictures_go_beside(
    server: S3Server, run: Callable[..., Report], scene: Path
) -> None:
    report = run(stac=True, acquired="2024-05-01T10:00:00Z")
    assert report.stac == f"s3://{BUCKET}/a/out.json"
    assert server.stored() == ["a/out.json", "a/out.overview.png", "a/out.thumbnail.png", "a/out.tif"]
    item = json.loads(server.read("a/out.json"))
    assert item["assets"]["data"]["href"] == "./out.tif"
    assert item["assets"]["data"]["file:size"] == report.bytes
    assert [link["href"] for link in item["links"]] == [scene.absolute().as_uri()]


def test_an_item_that_is_missing_is_made_of_the_finished_object(
    server: S3Server, run: Callable[..., Report], tmp_path: Path
) -> None:
    run(stac=True, acquired="2024-05-01T10:00:00Z")
    item = server.read("a/out.json")
    server.client().delete_object(Bucket=BUCKET, Key="a/out.json")
    etag = server.client().head_object(Bucket=BUCKET, Key="a/out.tif")["LastModified"]
    assert run(stac=True, acquired="2024-05-01T10:00:00Z").status == "skipped"
    made, before = json.loads(server.read("a/out.json")), json.loads(item)
    assert made["assets"] == before["assets"]
    assert server.client().head_object(Bucket=BUCKET, Key="a/out.tif")["LastModified"] == etag
    assert files_of(tmp_path / "scratch") == []


@pytest.mark.parametrize("name", ["out.json", "out.thumbnail.png"])
def test_objects_beside_that_are_not_ours_are_kept(
    server: S3Server, run: Callable[..., Report], name: str
) -> None:
    server.client().put_object(Bucket=BUCKET, Key=f"a/{name}", Body=b"{}")
    with pytest.raises(GeoSegSRError, match=f"s3://{BUCKET}/a/{name}"):
        run(stac=True, acquired="2024-05-01T10:00:00Z")
    assert server.stored() == [f"a/{name}"] and server.read(f"a/{name}") == b"{}"


def test_a_file_that_gdal_would_take_for_a_part_is_refused(
    server: S3Server, run: Callable[..., Report]
) -> None:
    server.client().put_object(Bucket=BUCKET, Key="a/out.tif.aux.xml", Body=b"<PAMDataset/>")
    with pytest.raises(JobError, match=r"out\.tif\.aux\.xml"):
        run()


def test_bands_and_uncertainty_become_objects(server: S3Server, run: Callable[..., Report]) -> None:
    report = run(separate=True)
    assert [f"a/{Path(file).name}" for file in report.files] == sorted(server.stored())
    assert run(separate=True).status == "skipped"
    beside = f"s3://{BUCKET}/a/doubt.tif"
    made = run(
        f"s3://{BUCKET}/b.tif", model="bundled", ensemble=True, uncertainty=f"s3://{BUCKET}/c/doubt.tif"
    )
    assert made.uncertainty == f"s3://{BUCKET}/c/doubt.tif" and "c/doubt.tif" in server.stored()
    with pytest.raises(ConfigError, match="same bucket or folder"):
        run("out.tif", scratch=None, model="bundled", ensemble=True, uncertainty=beside)


@pytest.mark.parametrize(
    ("target", "wrong"),
    [(f"s3://{BUCKET}/x.png", f"Name it 's3://{BUCKET}/x.tif'"), (f"s3://{BUCKET}/", "names no object"), ("https://a.org/x.tif", "Pass -o")],
)  # fmt: skip
def test_names_that_are_refused(
    server: S3Server, run: Callable[..., Report], target: str, wrong: str
) -> None:
    with pytest.raises(SceneError, match=wrong):
        run(target, scratch=None)
    assert server.asked == []


def test_scratch_is_for_stores_and_ones_own(
    server: S3Server, run: Callable[..., Report], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--scratch"):
        run(str(tmp_path / "out.tif"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch").chmod(0o777)
    with pytest.raises(SceneError, match="others may write there"):
        run()


def test_a_batch_skips_what_is_finished(
    server: S3Server, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.tif", "c.tif"):
        (tmp_path / name).write_bytes(scene.read_bytes())
    sources = [tmp_path / name for name in ("in.tif", "b.tif", "c.tif")]
    out = f"s3://{BUCKET}/out/"
    options = (*COMMAND, "--scratch", tmp_path / "scratch", "--stac", "--datetime", "2024-05-01T10:00:00Z")
    outcome = run_here(capfd, "upscale", *sources[:2], "-o", out, *options, "--json")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert {line["output"] for line in lines} == {f"{out}in_x2.tif", f"{out}b_x2.tif"}
    assert {line["status"] for line in lines} == {"done"}
    server.client().put_object(Bucket=BUCKET, Key="out/c_x2.tif", Body=b"the user's")
    options = (*COMMAND, "--scratch", tmp_path / "scratch", "--stac", "--datetime", "2024-05-01T10:00:00Z")
    outcome = run_here(
        capfd, "upscale", *sources, "-o", out, *COMMAND, "--scratch", tmp_path / "scratch", "--json"
    )
    found = {line["output"]: line["status"] for line in map(json.loads, outcome.out.splitlines())}
    assert outcome.code == 1
    assert found == {f"{out}in_x2.tif": "skipped", f"{out}b_x2.tif": "skipped", f"{out}c_x2.tif": "failed"}
    assert server.read("out/c_x2.tif") == b"the user's"
    collection = json.loads(server.read("out/collection.json"))
    items = sorted(link["href"] for link in collection["links"] if link["rel"] == "item")
    assert items == ["./b_x2.json", "./in_x2.json"]
    assert files_of(tmp_path / "scratch") == []


def test_a_collection_keeps_its_other_items(server: S3Server, scene: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.tif"
    other.write_bytes(scene.read_bytes())
    how = {**HOW, "stac": True, "acquired": "2024-05-01T10:00:00Z", "scratch": tmp_path / "scratch"}
    for source, name in ((scene, "in.tif"), (other, "deep/b.tif")):
        outcomes = list(upscale_batch([(str(source), Path(f"s3://{BUCKET}/out/{name}"))], **how))
        assert [outcome.status for outcome in outcomes] == ["done"]
    assert {"out/collection.json", "out/deep/collection.json"} <= set(server.stored())
    both = [
        (str(scene), Path(f"s3://{BUCKET}/out/in.tif")),
        (str(other), Path(f"s3://{BUCKET}/out/deep/b.tif")),
    ]
    list(upscale_batch(both[1:] + both[:1], **how))
    collection = json.loads(server.read("out/collection.json"))
    assert {link["href"] for link in collection["links"] if link["rel"] == "item"} == {
        "./in.json",
        "./deep/b.json",
    }


def test_a_dry_run_asks_the_store_and_writes_nothing(
    server: S3Server, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scratch = tmp_path / "scratch"
    outcome = run_here(capfd, "upscale", scene, "-o", TARGET, *COMMAND, "--scratch", scratch, "--dry-run")
    assert outcome.code == 0 and "blocks" in outcome.out
    assert {asked.method for asked in server.asked} == {"HEAD"} and not scratch.exists()
    server.client().put_object(Bucket=BUCKET, Key="a/out.tif", Body=b"the user's")
    outcome = run_here(capfd, "upscale", scene, "-o", TARGET, *COMMAND, "--scratch", scratch, "--dry-run")
    assert_refused(outcome, 1, "it exists")


def test_preview_report_info_and_evaluate_take_objects(
    server: S3Server, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run_here(
        capfd, "upscale", scene, "-o", TARGET, *COMMAND, "--scratch", tmp_path / "scratch",
        "--preview", "{stem}.png", "--report", f"s3://{BUCKET}/reports/out.html", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["preview"] == f"s3://{BUCKET}/a/out.png"
    assert found["appraisal"]["path"] == f"s3://{BUCKET}/reports/out.html"
    assert server.stored() == ["a/out.png", "a/out.tif", "reports/out.html"]
    assert (
        server.client()
        .head_object(Bucket=BUCKET, Key="reports/out.html")["ContentType"]
        .startswith("text/html")
    )
    for command in (("info", TARGET), ("report", scene, TARGET), ("evaluate", TARGET, "--lr", scene)):
        outcome = run_here(capfd, *command)
        assert outcome.code == 0, outcome.err
    assert "a/out.html" in server.stored()
    server.client().put_object(Bucket=BUCKET, Key="a/out.html", Body=b"the user's")
    assert_refused(run_here(capfd, "report", scene, TARGET), 1, f"s3://{BUCKET}/a/out.html")


def test_no_credential_is_in_anything_that_is_said_or_written(
    server: S3Server, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""
    options = (
        *COMMAND,
        "--scratch",
        tmp_path / "scratch",
        "-vv",
        "--stac",
        "--datetime",
        "2024-05-01T10:00:00Z",
    )
    refusing: Callable[[Asked, int], tuple[int, str] | None]
    for refusing in (lambda asked, before: None, lambda asked, before: (403, "SignatureDoesNotMatch")):
        server.spoil = refusing
        for more in ((), ("--json",), ("--overwrite", "--no-resume")):
            outcome = run_here(capfd, "upscale", scene, "-o", TARGET, *options, *more)
            said += outcome.out + outcome.err
    server.spoil = None
    said += "".join(server.read(key).decode("latin1") for key in server.stored())
    with rasterio.open(scene) as source:
        said += str(source.tags())
    for secret in (SECRET, KEY, TOKEN, "X-Amz-Signature"):
        assert secret not in said


@pytest.mark.usefixtures("_in_parts")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_kill_in_the_middle_leaves_no_object_and_the_next_run_ends_it(
    server: S3Server, run: Callable[..., Report], scene: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    reached, released = threading.Event(), threading.Event()

    def hold(asked: Asked, before: int) -> None:
        if "partNumber=3" in asked.query:
            reached.set()
            released.wait(60)

    server.spoil = hold
    code = "from geosegsr.stores import transfer; transfer.PART_BYTES = 20_000; " + PROGRAM[-1]
    command = [
        *PROGRAM[:-1],
        code,
        "upscale",
        scene,
        "-o",
        TARGET,
        *COMMAND,
        "--scratch",
        tmp_path / "scratch",
    ]
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL, env=os.environ)
    while not reached.wait(0.02):
        assert process.poll() is None
    process.send_signal(stop)
    released.set()
    assert process.wait(60) != 0
    assert server.stored() == []
    assert (server.open_uploads() == []) is (stop != signal.SIGKILL)
    server.spoil = None
    assert run().status == "done"
    assert server.stored() == ["a/out.tif"] and server.open_uploads() == []
    assert files_of(tmp_path / "scratch") == []


def test_gdal_gets_the_credentials_and_the_endpoint_of_a_profile(
    server: S3Server, run: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"Version": 1, "AccessKeyId": KEY, "SecretAccessKey": SECRET}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    config = tmp_path / "config"
    config.write_text(
        f"[profile work]\nregion = us-east-1\nendpoint_url = {server.url}\n"
        f"credential_process = cat {tmp_path / 'keys.json'}\n"
    )
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")
    forget_stores()
    assert (run().status, run().status) == ("done", "skipped")
    by_gdal = [asked for asked in server.asked if "GDAL" in asked.headers.get("HTTP_USER_AGENT", "")]
    assert by_gdal and all(KEY in asked.headers["HTTP_AUTHORIZATION"] for asked in by_gdal)
