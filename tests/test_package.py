"""The package as users get it: a wheel that holds everything, light imports, names that resolve."""
import configparser
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

import kzoo

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
HEAVY = ("keras", "tensorflow", "jax", "torch", "onnxruntime", "onnx", "numpy")


def fresh(code, *paths):
    """Run `code` in a process that sees `paths`, then the installed libraries, and no kzoo but what they hold."""
    libraries = sysconfig.get_paths()["purelib"]
    start = f"import sys, site; sys.path.append({libraries!r})\n"
    start += "".join(f"sys.path.insert(0, {str(path)!r}); site.addsitedir({str(path)!r})\n" for path in paths)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copy_source(folder):
    """The files that a build reads, away from the checkout: a build leaves its own folders behind."""
    for name in ("kzoo", "export"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


def pip(*words):
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def build_wheel(source, out):
    pip("wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", out, source)
    return next(out.glob("kzoo-*.whl"))


def missing_from(wheel, source):
    """Files of the two source folders that the wheel lacks, by their installed names."""
    expected = {str(path.relative_to(source)) for path in (source / "kzoo").rglob("*") if path.is_file()}
    expected |= {f"kzoo/{path.relative_to(source)}" for path in (source / "export").rglob("*") if path.is_file()}
    return sorted(expected - set(zipfile.ZipFile(wheel).namelist()))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return copy_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_of_the_source(wheel, source):
    assert missing_from(wheel, source) == []


def test_a_package_that_is_not_listed_is_noticed(tmp_path):
    source = copy_source(tmp_path)
    listed = (source / "setup.cfg").read_text()
    (source / "setup.cfg").write_text(listed.replace("    kzoo.layers\n", ""))
    assert "kzoo/layers/__init__.py" in missing_from(build_wheel(source, tmp_path / "wheel"), source)


def test_the_wheel_has_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(name).decode())
    assert entry_points["console_scripts"]["kzoo"] == "kzoo.cli:main"


def test_an_installed_wheel_has_kzoo_export(wheel, tmp_path):
    pip("install", "--quiet", "--no-deps", "--target", tmp_path, wheel)
    where = fresh("import kzoo.export; print(kzoo.export.__file__)", tmp_path)
    assert pathlib.Path(where) == tmp_path / "kzoo" / "export" / "__init__.py"


def test_an_editable_install_has_kzoo_export(source, tmp_path):
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--target", tmp_path, "--editable", source)
    where = fresh("import kzoo.export; print(kzoo.export.__file__)", tmp_path)
    assert pathlib.Path(where) == source / "export" / "__init__.py"


def test_a_checkout_has_kzoo_export():
    where = fresh("import kzoo.export; print(kzoo.export.__file__)", CHECKOUT)
    assert pathlib.Path(where) == CHECKOUT / "export" / "__init__.py"


@pytest.mark.parametrize("code", ["import kzoo", "import kzoo; dir(kzoo)", "import kzoo.cli", """
from kzoo.cli import main
try:
    main(["--help"])
except SystemExit as finished:
    assert finished.code == 0
""", "from kzoo.cli import main; assert main(['trian']) == 2"])
def test_a_light_start(code):
    assert fresh(f"{code}\nprint([name for name in {HEAVY} if name in sys.modules])", CHECKOUT).endswith("[]")


def test_a_heavy_start_is_noticed():
    assert "numpy" in fresh(f"import numpy\nprint([name for name in {HEAVY} if name in sys.modules])", CHECKOUT)


@pytest.mark.parametrize("name", kzoo.__all__)
def test_every_public_name_resolves(name):
    assert getattr(kzoo, name) is not None
    assert name in dir(kzoo)


def test_functions_stay_functions_when_modules_of_their_name_are_imported():
    import kzoo.export.verify

    assert callable(kzoo.verify) and callable(kzoo.open_bundle)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        kzoo.creat  # noqa: B018


def test_a_name_that_needs_a_backend_says_how_to_install_it():
    blocked = "sys.modules['keras'] = None\n"
    asked = "import kzoo\ntry:\n    kzoo.create\nexcept ImportError as error:\n    print(error)"
    assert "pip install 'kzoo[train]'" in fresh(blocked + asked, CHECKOUT)
    assert fresh(blocked + asked.replace("create", "load_tokenizer"), CHECKOUT) == ""  # needs none


def test_base_requires_no_backend():
    settings = configparser.ConfigParser()
    settings.read(CHECKOUT / "setup.cfg")
    base = settings["options"]["install_requires"]
    assert "onnxruntime" in base and "tokenizers" in base
    assert not any(name in base for name in ("tensorflow", "keras", "jax", "torch"))


def test_what_needs_the_onnx_operators_has_a_run_of_its_own():
    """Elsewhere it is skipped, see tests/onnx_operators.py."""
    needing = {path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("tests/**/test_*.py")
               if "\nonnx_operators.need()" in path.read_text(encoding="utf-8")}
    listed = (CHECKOUT / "Makefile").read_text(encoding="utf-8").partition("ON_ONNX_TEXT = ")[2].partition("\n\n")[0]
    assert needing == set(listed.replace("\\", " ").split())
