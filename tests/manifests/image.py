"""Builds the image's root without a container engine, and runs it as a container would.

The first stage's steps are run in a folder, on a machine that is like its base image; the last stage's are copied into
another one, which is entered with chroot, as the image's user, with the image's variables and nothing else.
"""

import os
import pathlib
import re
import shlex
import shutil
import stat
import subprocess
import sys

from dockerfile import Dockerfile
from live import Fault, Place, expect, the_tick_works
from manifests import REPOSITORY, read

MOST_BYTES = 30_000_000
UNLIKE = 3


def unlike(base):
    """Why what is built here says nothing about the image; None where it does."""
    version, codename = re.search(r"rust:([\d.]+)-slim-(\w+)$", base).groups()
    release = pathlib.Path("/etc/os-release").read_text()
    if os.geteuid() != 0:
        return "only root may enter another root"
    if f"VERSION_CODENAME={codename}" not in release:
        return f"this is not Debian {codename}"
    if not shutil.which("cargo") or f"rustc {version}." not in output(["rustc", "--version"]):
        return f"this is not Rust {version}"
    return None


def output(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def settings(stage):
    """What ENV sets."""
    return dict(word.split("=", 1) for arguments in stage.all("ENV") for word in shlex.split(arguments))


def build(stage, folder):
    """Runs a stage's steps in a folder. What cargo built before is kept, as the layer of dependencies would be."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name != "target":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    env = {name: value for name, value in os.environ.items() if "RUSTFLAGS" not in name and name != "CARGO_TARGET_DIR"}
    for name, arguments in stage.instructions:
        if name == "COPY":
            *sources, destination = shlex.split(arguments)
            for source in sources:
                copy(REPOSITORY / source, folder / destination, destination.endswith("/"))
        elif name == "RUN":
            subprocess.run(["sh", "-ec", arguments], cwd=folder, env=env | settings(stage), check=True)


def copy(source, destination, into):
    if source.is_dir():
        shutil.copytree(source, destination, dirs_exist_ok=True)
    else:
        shutil.copy2(source, destination / source.name if into else destination)


def assemble(stage, built, workdir, root):
    """Lays out the last stage's root."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for _, (source,), destination, options in stage.copies():
        target = root / destination.lstrip("/")
        shutil.copytree(built / pathlib.PurePosixPath(source).relative_to(workdir), target, dirs_exist_ok=True)
        if "chown" in options:
            os.chown(target, *(int(it) for it in options["chown"].split(":")))


class Container(Place):
    """A root that the binary is run in, as the image says and as a pod completes it."""

    server = "dripfeed"

    def __init__(self, stage, root):
        super().__init__(root, "dripfeed")
        self.env, self.user, self.data = settings(stage), stage.last("USER"), stage.last("VOLUME")
        # What every engine gives a container. A static binary takes its random numbers from there: that the system has a
        # call for them is something that it cannot look up.
        (root / "dev").mkdir()
        for name, minor in [("null", 3), ("random", 8), ("urandom", 9)]:
            os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            os.chmod(root / "dev" / name, 0o666)
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.0.1 dripfeed\n")

    def write(self, name, text):
        folder = self.folder / "etc/dripfeed"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        return f"/etc/dripfeed/{name}"

    def start(self, arguments, env, **pipes):
        def enter():
            user, group = (int(it) for it in self.user.split(":"))
            os.chroot(self.folder)
            os.chdir(self.data)
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)

        return subprocess.Popen([self.binary, *arguments], env=self.env | env, preexec_fn=enter, text=True, **pipes)


def the_image_is_small(root):
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    print(f"image: {size / 1e6:.1f} MB")
    expect(size <= MOST_BYTES, f"the image has {size} bytes")


def the_user_owns_only_data(root, data):
    for path in root.rglob("*"):
        owned = path.stat().st_uid != 0 or path.stat().st_mode & 0o022
        expect(not owned or str(path) == f"{root}{data}", f"the user may write {path.relative_to(root)}")


def the_demo_runs(container):
    """The whole thing, as somebody who has just built the image tries it."""
    shown = container.run(["demo", "--rows", "20", "--exit"], {})
    expect(shown.returncode == 0, f"the demo fails: {shown.stderr}")


def main(rendered, folder):
    dockerfile = Dockerfile((REPOSITORY / "Dockerfile").read_text())
    first, last = dockerfile.stages
    reason = unlike(first.base)
    if reason:
        print(f"the image cannot be built here: {reason}", file=sys.stderr)
        return UNLIKE
    built, root = pathlib.Path(folder) / "build", pathlib.Path(folder) / "root"
    build(first, built)
    assemble(last, built, first.last("WORKDIR"), root)
    try:
        the_image_is_small(root)
        the_user_owns_only_data(root, last.last("VOLUME"))
        container = Container(last, root)
        the_demo_runs(container)
        the_tick_works(container, read(rendered)["k8s/base"])
    except Fault as fault:
        print(f"FAULT image: {fault}")
        print("image: 0 passed, 1 failed")
        return 1
    print("image: 1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
