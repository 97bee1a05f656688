"""Rendered manifests, and what the rules ask of them."""

import pathlib
import re
import tomllib

import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SERVER = {"app.kubernetes.io/name": "dripfeed", "app.kubernetes.io/component": "server"}
DISPATCH = {"app.kubernetes.io/name": "dripfeed", "app.kubernetes.io/component": "dispatch"}
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Pod:
    """A pod template, with the object that makes pods of it."""

    def __init__(self, owner, template):
        self.owner = f"{owner['kind']}/{owner['metadata']['name']}"
        self.labels = template.get("metadata", {}).get("labels", {})
        self.spec = template["spec"]
        self.claims = owner["spec"].get("volumeClaimTemplates", [])

    @property
    def containers(self):
        return self.spec.get("initContainers", []) + self.spec["containers"]

    def volume(self, name):
        """The source of a volume; a claim's is {"claim": ...}."""
        for claim in self.claims:
            if claim["metadata"]["name"] == name:
                return {"claim": claim}
        return next((volume for volume in self.spec.get("volumes", []) if volume["name"] == name), None)

    def secrets(self):
        """(secret, key) of every reference; the key is None where the whole Secret is taken."""
        for container in self.containers:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    yield reference["name"], reference["key"]
            for source in container.get("envFrom", []):
                if "secretRef" in source:
                    yield source["secretRef"]["name"], None
        for volume in self.spec.get("volumes", []):
            sources = [volume, *volume.get("projected", {}).get("sources", [])]
            for source in sources:
                if "secret" in source:
                    yield source["secret"].get("secretName", source["secret"].get("name")), None


class Manifests:
    """Everything that one kustomization renders."""

    def __init__(self, name, objects):
        self.name = name
        self.objects = objects

    def all(self, kind):
        return [it for it in self.objects if it["kind"] == kind]

    def named(self, kind, name):
        return next((it for it in self.all(kind) if it["metadata"]["name"] == name), None)

    def pods(self):
        for it in self.objects:
            if it["kind"] == "CronJob":
                yield Pod(it, it["spec"]["jobTemplate"]["spec"]["template"])
            elif "template" in it.get("spec", {}):
                yield Pod(it, it["spec"]["template"])

    def pods_with(self, labels):
        return [pod for pod in self.pods() if labels.items() <= pod.labels.items()]

    @property
    def server(self):
        """The StatefulSet of the server, and its pod."""
        return self.named("StatefulSet", "dripfeed"), self.pods_with(SERVER)[0]

    @property
    def cronjob(self):
        """The CronJob, and its pod."""
        return self.named("CronJob", "dripfeed-dispatch"), self.pods_with(DISPATCH)[0]

    def configuration(self, pod):
        """The TOML that a pod of ours is given: its text, and what it says."""
        container = pod.spec["containers"][0]
        path = pathlib.PurePosixPath(literal(container, "DRIPFEED_CONFIG"))
        mount = next(it for it in container["volumeMounts"] if it["mountPath"] == str(path.parent))
        source = pod.volume(mount["name"])["configMap"]["name"]
        text = self.named("ConfigMap", source)["data"][path.name]
        return text, tomllib.loads(text)


def literal(container, name):
    """The value of a variable that is written out."""
    return next(it["value"] for it in container["env"] if it["name"] == name)


def seconds(duration):
    """A duration of dripfeed's configuration."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def read(folder):
    """The manifests that were rendered into a folder, by the kustomization's folder."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        name = path.stem.replace(",", "/")
        objects = [it for it in yaml.safe_load_all(path.read_text()) if it]
        found[name] = Manifests(name, objects)
    assert len(found) >= 3, f"the kustomizations were rendered into {folder}"
    return found
