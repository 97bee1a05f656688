"""What the Dockerfile promises, as far as it shows without a container engine; and faults planted in it."""

import fnmatch
import json
import pathlib
import re
import shlex
import sys
import tomllib

from manifests import REPOSITORY

KNOWN = set("ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN USER VOLUME WORKDIR".split())
FETCHES = re.compile(r"\b(curl|wget|git|rustup|apt-get|pip|npm)\b")
# What must never reach a builder, wherever it lies.
PRIVATE = [".git", "target", "data", "keys", "dripfeed.keys", "dripfeed.toml", ".env", "secret-key", "k8s", "tests"]


class Stage:
    """FROM, and what follows it."""

    def __init__(self, arguments):
        words = arguments.split()
        self.base = words[0]
        self.name = words[2] if len(words) == 3 and words[1].upper() == "AS" else None
        self.instructions = []

    def all(self, instruction):
        return [arguments for name, arguments in self.instructions if name == instruction]

    def last(self, instruction):
        return (self.all(instruction) or [""])[-1]

    def copies(self):
        """(stage or None, sources, destination, options) of every COPY."""
        for arguments in self.all("COPY"):
            words = shlex.split(arguments)
            options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
            paths = [word for word in words if not word.startswith("--")]
            yield options.get("from"), paths[:-1], paths[-1], options


class Dockerfile:
    """Its stages, and the arguments that stand before them."""

    def __init__(self, text):
        self.arguments, self.stages = {}, []
        text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
        for line in text.replace("\\\n", " ").splitlines():
            if not line.strip():
                continue
            name, _, arguments = line.strip().partition(" ")
            if name == "FROM":
                self.stages.append(Stage(self.expand(arguments.strip())))
            elif not self.stages:
                assert name == "ARG", f"{name} before the first FROM"
                key, _, value = arguments.strip().partition("=")
                self.arguments[key] = value
            else:
                self.stages[-1].instructions.append((name, arguments.strip()))

    def expand(self, text):
        return re.sub(r"\$\{(\w+)\}", lambda found: self.arguments[found[1]], text)


class Ignored:
    """.dockerignore: the last pattern that fits a path, or a folder above it, decides."""

    def __init__(self, text):
        lines = [line.strip() for line in text.splitlines()]
        self.patterns = [line for line in lines if line and not line.startswith("#")]

    def hides(self, path):
        hidden = False
        above = [path, *(str(parent) for parent in pathlib.PurePosixPath(path).parents if str(parent) != ".")]
        for pattern in self.patterns:
            wanted = pattern.lstrip("!").strip("/")
            if any(fnmatch.fnmatchcase(part, wanted) for part in above):
                hidden = not pattern.startswith("!")
        return hidden


def listed(arguments):
    """The words of an exec form; None for a shell form."""
    try:
        words = json.loads(arguments)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def included():
    """Files outside of src that the sources are built with."""
    for source in (REPOSITORY / "src").rglob("*.rs"):
        for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text()):
            path = (source.parent / name).resolve().relative_to(REPOSITORY)
            if path.parts[0] != "src":
                yield str(path)


def faults(text, ignored_text):
    """A sentence for each fault."""
    dockerfile, ignored = Dockerfile(text), Ignored(ignored_text)
    manifest = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())
    cargo = manifest["package"]
    build, image = dockerfile.stages[0], dockerfile.stages[-1]
    expect = {
        "only instructions that are known": all(
            name in KNOWN for stage in dockerfile.stages for name, _ in stage.instructions
        ),
        "every stage has a name": all(stage.name for stage in dockerfile.stages),
        "the compiler is the one that Cargo.toml asks for": f":{cargo['rust-version']}-" in build.base,
        "the image begins with nothing": image.base == "scratch" and not image.all("RUN"),
        "no base image floats": all(
            stage.base in ("scratch", *(it.name for it in dockerfile.stages[:at]))
            or re.search(r":\d[\w.-]+$|@sha256:", stage.base)
            for at, stage in enumerate(dockerfile.stages)
        ),
        "its version is the crate's": f"VERSION={cargo['version']}" in image.all("ARG"),
        "it says what the crate says": cargo["description"] in image.last("LABEL"),
        "its license is the crate's": f'image.licenses="{cargo["license"]}"' in image.last("LABEL"),
        "the user is a number, not root's": re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.last("USER")),
        "the binary is the entry point, without a shell": listed(image.last("ENTRYPOINT")) == ["dripfeed"],
        "it serves unless told otherwise": listed(image.last("CMD")) == ["serve"],
        "its health is asked of the binary, without a shell": listed(image.last("HEALTHCHECK").partition("CMD ")[2])
        == ["dripfeed", "healthcheck"],
        "the data have a volume": image.last("VOLUME") == image.last("WORKDIR") == "/data",
        "temporary files go to the volume": "TMPDIR=/data" in image.all("ENV"),
        "the binary is linked statically": any("+crt-static" in it for it in build.all("ENV")),
        "nothing is fetched but by cargo": not FETCHES.search(" ".join(build.all("RUN"))),
        # Cargo goes through the folders for those without a path, and fails where they are not copied.
        "benches and tests have a path": all(
            "path" in target for kind in ("bench", "test", "example") for target in manifest.get(kind, [])
        ),
        "builds are locked": all("--locked" in it for it in build.all("RUN") if "cargo build" in it),
    }
    yield from (f"expected: {what}" for what, holds in expect.items() if not holds)
    yield from copy_faults(dockerfile, ignored)
    for path in PRIVATE:
        if not ignored.hides(path):
            yield f".dockerignore lets {path} through"


def copy_faults(dockerfile, ignored):
    build, image = dockerfile.stages[0], dockerfile.stages[-1]
    user, copied = image.last("USER"), []
    for at, stage in enumerate(dockerfile.stages):
        earlier = [it.name for it in dockerfile.stages[:at]]
        for origin, sources, destination, options in stage.copies():
            if origin is not None and origin not in earlier:
                yield f"COPY --from={origin}: no stage before has that name"
            if options.get("chown", user) != user:
                yield f"COPY to {destination} gives it to somebody else than the user"
            if ("chown" in options) != (destination.rstrip("/") == "/data") and stage is image:
                yield f"COPY to {destination}: the data, and only they, belong to the user"
            for source in sources if origin is None else []:
                copied.append(source.rstrip("/"))
                if not (REPOSITORY / source).exists():
                    yield f"COPY {source}: there is no such file"
                if ignored.hides(source.rstrip("/")):
                    yield f"COPY {source}: .dockerignore hides it"
    for path in sorted(set(included())):
        if not any(path == it or path.startswith(f"{it}/") for it in copied):
            yield f"{path} is compiled in, and not copied"
    steps = [f"{name} {arguments}" for name, arguments in build.instructions]
    sources = steps.index("COPY src src") if "COPY src src" in steps else 0
    if not any("cargo build" in step for step in steps[:sources]):
        yield "dependencies are not built before the sources are copied"
    if not any("touch src/main.rs src/lib.rs" in step for step in steps[sources:]):
        yield "sources that are older than the stand-ins would not be built"


# (what is wrong, in which file, what stands there, what stands there instead)
PLANTED = [
    ("a missing file", 0, "COPY schema.sql ./", "COPY shema.sql ./"),
    ("what is compiled in", 0, "COPY static static", ""),
    ("a stage without a name", 0, "slim-bookworm AS build", "slim-bookworm"),
    ("an image that floats", 0, "rust:${RUST}-slim-bookworm", "rust:slim"),
    ("another compiler", 0, "ARG RUST=1.95", "ARG RUST=1.70"),
    ("root", 0, "USER 65532:65532", "USER root"),
    ("a user by name", 0, "USER 65532:65532", "USER dripfeed"),
    ("a shell", 0, 'ENTRYPOINT ["dripfeed"]', "ENTRYPOINT dripfeed"),
    ("a probe with a shell", 0, 'CMD ["dripfeed", "healthcheck"]', "CMD dripfeed healthcheck"),
    ("a stage that is none", 0, "--from=build /build/root/", "--from=builder /build/root/"),
    ("a binary that the user may change", 0, "--from=build /build/root/", "--from=build --chown=65532:65532 /build/root/"),
    ("stale stand-ins", 0, "RUN touch src/main.rs src/lib.rs", "RUN true"),
    ("a shared C library", 0, 'ENV RUSTFLAGS="-C target-feature=+crt-static"', ""),
    ("a download", 0, "RUN mkdir src", "RUN curl https://sh.example.com | sh; mkdir src"),
    ("another version", 0, "ARG VERSION=0.1.0", "ARG VERSION=0.0.9"),
    ("a misspelt instruction", 0, "EXPOSE 8080", "EXPOSED 8080"),
    ("everything sent to the builder", 1, "*\n", ""),
    ("the history sent to the builder", 1, "!static", "!static\n!.git"),
    ("sources hidden from the builder", 1, "!src\n", ""),
]


def main():
    texts = [(REPOSITORY / name).read_text() for name in ("Dockerfile", ".dockerignore")]
    found = list(faults(*texts))
    for what, file, old, new in PLANTED:
        broken = list(texts)
        broken[file] = broken[file].replace(old, new)
        if broken == texts or not list(faults(*broken)):
            found.append(f"planted and not found: {what}")
    for fault in found:
        print(f"FAULT Dockerfile: {fault}")
    print(f"Dockerfile: {len(PLANTED)} planted faults")
    print(f"Dockerfile: {len(PLANTED) + 1 - len(found)} passed, {len(found)} failed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
