"""What a Dockerfile says, done without a container engine: each stage is a folder that was made by
mmdebstrap, its RUN lines run in it by chroot, and so do the commands of compose.yaml.

It needs root, mmdebstrap and the package registries. `python:VERSION-slim` is Debian with the Python
that runs this in /usr/local; other images than that one are not made. Of a line's mounts only the
cache is: uv's, of this machine.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
DEBIAN = CACHE / "twinspire" / "debian-bookworm.tar"
# Of Debian: what `python:VERSION-slim` installs for its Python.
PACKAGES = "ca-certificates,libffi8,libssl3,libsqlite3-0,libreadline8,libncursesw6,libbz2-1.0,liblzma5,netbase,tzdata"
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def possible() -> str | None:
    """Why it cannot be done here; None if it can."""
    if os.geteuid() != 0:
        return "chroot and mounts need root"
    for program in ("mmdebstrap", "unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


@dataclass
class Stage:
    """An image: its files, and what its Dockerfile says of running it."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Instructions with their arguments, comments dropped and lines joined."""
    lines = (line for line in dockerfile.read_text().splitlines() if not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def build(dockerfile: Path, target: str, files: Sequence[Path], home: Path) -> Stage:
    """Makes a stage and all that it is made from, in folders of `home`, which are kept for other
    targets.

    Args:
      files: the build context: paths below the working folder.
    """
    parts = stages(dockerfile)
    made: dict[str, Stage] = {}

    def make(name: str) -> Stage:
        if name not in made:
            base, lines = parts[name]
            made[name] = _make(home / name, base, lines)
        return made[name]

    def _make(root: Path, base: str, lines: list[tuple[str, str]]) -> Stage:
        done = root.with_suffix(".done")
        parent = make(base) if base in parts else Stage(home / "python")
        if base not in parts and not (home / "python.done").exists():
            _python(parent.root)
            (home / "python.done").touch()
        stage = Stage(**{**vars(parent), "root": root, "env": dict(parent.env)})
        fresh = not done.exists()
        if fresh:
            shutil.rmtree(root, ignore_errors=True)
            # Hard links: what is replaced in one root stays in the other.
            subprocess.run(["cp", "-al", parent.root, root], check=True)
        for name, text in lines:
            match name:
                case "ENV":
                    stage.env |= dict(word.split("=", 1) for word in shlex.split(text))
                case "USER":
                    stage.user = text
                case "WORKDIR":
                    stage.workdir = text
                    (root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "ENTRYPOINT":
                    stage.entrypoint, stage.cmd = json.loads(text), []
                case "CMD":
                    stage.cmd = json.loads(text)
                case "HEALTHCHECK":
                    stage.healthcheck = json.loads(text.partition("CMD ")[2])
                case "COPY" if fresh:
                    _copy(stage, shlex.split(text), files, lambda other: make(other).root)
                case "RUN" if fresh:
                    command = re.sub(r"--mount=\S+ ", "", text)
                    with entered(stage.root, cache=True) as inside:
                        line = inside(
                            ["/bin/sh", "-c", command], {**stage.env, **_registries()}, stage
                        )
                        subprocess.run(line, check=True)
        done.touch()
        return stage

    return make(target)


def stages(dockerfile: Path) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Name of a stage -> what it is FROM, and its instructions."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    lines: list[tuple[str, str]] = []
    for name, text in instructions(dockerfile):
        if name == "FROM":
            base, _, stage = text.partition(" AS ")
            found[stage] = (base, lines := [])
        elif found:
            lines.append((name, text))
    return found


def _python(root: Path) -> None:
    """Debian with this Python in /usr/local: as `python:VERSION-slim`."""
    if not DEBIAN.exists():
        DEBIAN.parent.mkdir(parents=True, exist_ok=True)
        part = DEBIAN.with_suffix(".part.tar")
        line = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(part)]
        subprocess.run(line, check=True)
        part.rename(DEBIAN)
    root.mkdir(parents=True)
    subprocess.run(["tar", "-xpf", DEBIAN, "-C", root, "--exclude=./dev/*"], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base, local = Path(sys.base_prefix), root / "usr/local"
    shutil.copytree(base / "lib", local / "lib", symlinks=True, dirs_exist_ok=True, ignore=_extras)
    for library in (local / "lib" / version / "site-packages", local / "bin"):
        library.mkdir(exist_ok=True)
    shutil.copy2(base / "bin" / version, local / "bin" / version)
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(version)
    # This machine's way to the registries.
    for path in (
        CERTIFICATES,
        "/etc/resolv.conf",
        *map(str, Path("/etc/apt/apt.conf.d").glob("99*")),
    ):
        if Path(path).exists():
            (root / path.lstrip("/")).unlink(missing_ok=True)
            shutil.copy(path, root / path.lstrip("/"))
    with entered(root) as inside:
        for command in (["ldconfig"], ["python", "-m", "ensurepip", "--upgrade"]):
            line = inside(command, {}, Stage(root))
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        (local / "bin" / "pip").write_text('#!/bin/sh\nexec python -m pip "$@"\n')
        (local / "bin" / "pip").chmod(0o755)


def _extras(folder: str, names: list[str]) -> set[str]:
    return {
        n
        for n in names
        if n in ("test", "site-packages", "__pycache__", "idlelib") or "config-" in n
    }


def _registries() -> dict[str, str]:
    """Where pip and uv find packages, if this machine says so."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    told = re.findall(r"(?m)^\S+\.index-url='(.*)'$", listed)
    where = {"PIP_INDEX_URL": told[-1], "UV_DEFAULT_INDEX": told[-1]} if told else {}
    passed = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    return {**where, **passed, "SSL_CERT_FILE": CERTIFICATES, "PIP_CERT": CERTIFICATES}


def _copy(stage: Stage, words: list[str], files: Sequence[Path], root_of) -> None:
    """COPY: from another stage, or from the build context."""
    flags = [word for word in words if word.startswith("--")]
    *sources, target = [word for word in words if not word.startswith("--")]
    place = stage.root / os.path.join(stage.workdir, target).lstrip("/")
    other = next((f.removeprefix("--from=") for f in flags if f.startswith("--from=")), None)
    if other:
        for source in sources:
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-al", f"{root_of(other)}{source}/.", place], check=True)
        return
    for source in map(Path, sources):
        for path in files:
            if path == source or source in path.parents:
                inner = path.relative_to(source) if path != source else Path(path.name)
                to = place / inner if path != source or target.endswith("/") else place
                to.parent.mkdir(parents=True, exist_ok=True)
                to.unlink(missing_ok=True)
                shutil.copy(path, to)


@contextmanager
def entered(
    root: Path, *, cache: bool = False, network: bool = False, mounts: Mapping[str, Path] = {}
):
    """Holds namespaces in which the root has /proc, /dev and mounts, and with `network` a loopback
    of its own: yields what makes a line for `subprocess` of a command, its variables and its stage.

    Args:
      mounts: folder in the root -> folder here.
    """
    binds = {"dev": Path("/dev"), **{k.lstrip("/"): v for k, v in mounts.items()}}
    if cache:
        binds["root/.cache/uv"] = CACHE / "uv"
    script = ["mkdir -p proc && mount -t proc proc proc"]
    for inner, outer in binds.items():
        outer.mkdir(parents=True, exist_ok=True)
        script.append(f"mkdir -p {inner} && mount --rbind {shlex.quote(str(outer))} {inner}")
    if network:
        script.append("ip link set lo up")
    script.append("echo ready; exec sleep infinity")
    spaces = ["--mount", *(["--net"] if network else [])]
    holder = subprocess.Popen(
        ["unshare", *spaces, "sh", "-ec", "; ".join(script)],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "ready\n"

        def inside(command: Sequence[str], env: Mapping[str, str], stage: Stage) -> list[str]:
            uid, gid = stage.user.split(":")
            home = {"HOME": "/root" if uid == "0" else "/home/twinspire"}
            words = [f"{k}={v}" for k, v in {**ENV, **home, **env}.items()]
            enter = ["nsenter", f"--target={holder.pid}", *spaces]
            change = ["chroot", f"--userspec={uid}:{gid}", str(stage.root)]
            return [*enter, *change, "env", "-i", f"--chdir={stage.workdir}", *words, *command]

        yield inside
    finally:
        holder.kill()
        holder.communicate()
