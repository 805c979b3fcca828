"""The command line: what it prints, where, and what it loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import scene_factory as factory
from geosegsr_cli.main import COMMANDS, main


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys\nfrom geosegsr_cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'rasterio', 'dask', 'xarray', 'open_clip', 'distributed'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert name in done.stdout


def test_a_command_ends_with_what_modules_registered_for_the_exit() -> None:
    code = (
        "import atexit, sys\nfrom geosegsr_cli.main import main\n"
        "atexit.register(print, 'registered')\nsys.argv[1:] = {}\nmain()\nprint('not reached')"
    )
    for line, expected in ((["--version"], 0), (["no-such-command"], 2)):
        done = subprocess.run([sys.executable, "-c", code.format(line)], capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
        assert done.stdout.splitlines()[-1] == "registered"


def test_interpolation_loads_no_torch(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    code = (
        "import sys, geosegsr\n"
        f"geosegsr.upscale({str(source)!r}, {str(tmp_path / 'out.tif')!r}, 2, 'bicubic')\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_upscale_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = factory.write_plain(tmp_path / "in.tif"), tmp_path / "out.tif"
    code, out, err = run(capsys, "upscale", str(source), "-o", str(target), "--scale", "2", "-m", "bicubic")
    assert code == 0 and target.exists()
    assert out.startswith(f"{target}: ") and "3 bands uint16" in out
    assert "blocks" in err and "verifying" in err


def test_json_is_one_document_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = factory.write_plain(tmp_path / "in.tif"), tmp_path / "out.tif"
    code, out, err = run(
        capsys, "upscale", str(source), "-o", str(target), "-s", "2", "-m", "lanczos", "--json", "-q"
    )
    assert code == 0 and err == ""
    assert json.loads(out)["model"] == "lanczos"


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = factory.write_plain(tmp_path / "in.tif"), tmp_path / "out.tif"
    code, out, _ = run(
        capsys, "upscale", str(source), "-o", str(target), "-s", "2", "-m", "bicubic", "--dry-run", "--json"
    )
    expected = json.loads(out)
    assert code == 0 and expected["width"] > 0 and expected["memory_bytes"] > 0 and expected["seconds"] >= 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif"]
    code, out, _ = run(
        capsys, "upscale", str(source), "-o", str(target), "-s", "2", "-m", "bicubic", "--dry-run"
    )
    assert [line.split()[0] for line in out.splitlines()] == ["output", "work", "memory", "disk", "time"]


def test_info_tells_the_assumptions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "info", str(factory.write_nir_as_alpha(tmp_path / "nir.tif")))
    assert code == 0 and "near infrared" in out and "see --alpha" in out
    code, out, _ = run(capsys, "info", "--json", str(factory.write_gcps(tmp_path / "gcps.tif")))
    facts = json.loads(out)
    assert facts["gcps"] > 0 and facts["transform"] is None
    code, out, _ = run(capsys, "info", str(factory.write_rotated(tmp_path / "rotated.tif")))
    assert "rotated" in out


def test_info_estimates_the_sensor_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(factory.write_plain(tmp_path / "in.tif", dtype="uint8"))
    _, out, _ = run(capsys, "info", source)
    assert "MTF" not in out
    code, out, _ = run(capsys, "info", source, "--sensor")
    line = next(line for line in out.splitlines() if line.startswith("sensor"))
    assert code == 0 and "MTF" in line
    assert "MTF" in json.loads(run(capsys, "info", source, "--sensor", "--json")[1])["sensor"]


def test_options_may_be_negative_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = factory.write_plain(tmp_path / "in.tif", dtype="int16")
    code, _, err = run(
        capsys, "upscale", str(source), "-o", str(tmp_path / "out.tif"), "-s", "2", "-m", "bicubic",
        "--range", "-10", "4000", "--nodata", "-32768", "--bbox", "-1e7", "-1e7", "1e8", "1e8",
    )  # fmt: skip
    assert code == 0, err
