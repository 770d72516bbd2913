"""Do all set-up and run the demo or the tests. Needs Python 3.11 or newer and nothing else.

python3 tasks.py demo [OUTPUT_DIR]   install the package in .venv-demo and run its demo
python3 tasks.py test                install what the tests need in .venv-test and run all checks

An environment that is up to date is used again. To begin anew, delete its folder.
"""

# This file must be readable for an old Python, which is told here what is missing.
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)

# what CI checks, in this order; all are run even if one fails
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("mkdocs", "build", "--strict", "--quiet"),
    ("pytest", "-n", "2", "--dist", "loadgroup"),
)


def main() -> int:
    """Run the task that the command line names and return the exit status."""
    task, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if task == "demo" and len(arguments) <= 1:
        return demo(arguments[0] if arguments else "demo_output")
    if task == "test" and not arguments:
        return test()
    print(__doc__)
    return 0 if task in ("-h", "--help") else 2


def demo(output: str) -> int:
    """Install the package as a user would and run its demo."""
    # all that goes into the package
    sources = [p for p in (ROOT / "optimagic_lite").rglob("*") if "__pycache__" not in p.parts]
    python = environment(".venv-demo", (".",), sorted(p for p in sources if p.is_file()))
    # -I: the installed package, not the folder in which we are
    return run(python, "-I", "-m", "optimagic_lite.demo", str(Path(output).resolve()))


def test() -> int:
    """Run all checks and say which failed."""
    python = environment(
        ".venv-test", ("-e", ".", "--group", "test", "--group", "lint", "--group", "docs"), ()
    )
    # a theme of MkDocs that advertises its successor
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    failed = []
    for check in CHECKS:
        say(" ".join(check))
        if run(python, "-m", *check):
            failed.append(" ".join(check))
    say("FAILED: " + "; ".join(failed) if failed else "All checks passed.")
    return 1 if failed else 0


def environment(name: str, requirements: tuple, sources: tuple) -> str:
    """Return the Python of a virtual environment in which requirements are installed.

    Args:
        name: Folder of the environment.
        requirements: Arguments of ``pip install``.
        sources: Files that, with pyproject.toml, decide whether it is up to date.
    """
    folder = ROOT / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "up_to_date"
    wanted = fingerprint(requirements, (ROOT / "pyproject.toml", ROOT / "README.md", *sources))
    found = stamp.read_text() if stamp.exists() else ""
    if found == wanted and python.exists():
        say("Using the environment " + name)
        return str(python)
    # of an environment that was made by another Python, or only in part, nothing is kept
    if found.split()[:1] != wanted.split()[:1]:
        say("Making the virtual environment " + name + " with Python " + sys.version.split()[0])
        shutil.rmtree(str(folder), ignore_errors=True)
        if run(sys.executable, "-m", "venv", str(folder)):
            sys.exit(
                "The virtual environment could not be made. On Debian and Ubuntu the package\n"
                "python3-venv is needed: sudo apt install python3-venv"
            )
    say("Installing (the first time this downloads about 250 MB)")
    stamp.write_text(wanted.split()[0])
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    # --group came with pip 25.1
    if run(*pip, "--upgrade", "pip>=25.1") or run(*pip, *requirements):
        sys.exit("The installation failed; pip says why above.")
    stamp.write_text(wanted)
    return str(python)


def fingerprint(requirements: tuple, files: tuple) -> str:
    """Return the Python version and a hash of all on which an environment depends."""
    digest = hashlib.sha256(repr(requirements).encode())
    for file in files:
        digest.update(str(file.relative_to(ROOT)).encode())
        digest.update(file.read_bytes())
    return sys.version.split()[0] + " " + digest.hexdigest()


def run(*command: str) -> int:
    """Run a command in the project folder and return its exit status."""
    return subprocess.call(command, cwd=str(ROOT))


def say(text: str) -> None:
    """Print a headline."""
    print(time.strftime("[%H:%M:%S] ") + text, flush=True)


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        sys.exit(
            "optimagic_lite needs Python 3.11 or newer, and this is Python {}. If a newer one is\n"
            "installed, call it by name: python3.12 tasks.py {}".format(
                sys.version.split()[0], " ".join(sys.argv[1:])
            )
        )
    sys.exit(main())
