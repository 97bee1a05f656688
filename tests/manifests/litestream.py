"""What examples/litestream promises, with a planted fault for each promise."""

import copy

import yaml

from manifests import SERVER, seconds

NAME = "k8s/examples/litestream"
SECRET = "dripfeed-litestream"


def parts(manifests):
    """Its init containers, by name; its own configuration; and dripfeed's."""
    _, pod = manifests.server
    mount = next(it for it in pod.spec["initContainers"][0]["volumeMounts"] if it["mountPath"] == "/etc/litestream.yml")
    source = pod.volume(mount["name"])["configMap"]["name"]
    settings = yaml.safe_load(manifests.named("ConfigMap", source)["data"][mount["subPath"]])
    return pod.spec["initContainers"], settings, manifests.configuration(pod)[1]


def faults(manifests):
    containers, settings, toml = parts(manifests)
    names = [it["name"] for it in containers]
    if names != ["litestream-restore", "litestream"]:
        yield f"a restore, then the replication, before the server: {names}"
        return
    restore, sidecar = containers
    database = f"{toml['storage']['data_dir']}/dripfeed.db"
    if [it["path"] for it in settings["dbs"]] != [database]:
        yield f"it does not replicate {database}"
    if restore["args"][0] != "restore" or restore["args"][-1] != database or restore.get("restartPolicy"):
        yield f"an empty volume is not filled with {database}"
    if not {"-if-db-not-exists", "-if-replica-exists"} <= set(restore["args"]):
        yield "a start with a database, or the first one of all, fails or overwrites"
    if sidecar["args"] != ["replicate"] or sidecar.get("restartPolicy") != "Always":
        yield "the replication does not outlive the server"
    data = next(it["name"] for it in manifests.server[1].spec["containers"][0]["volumeMounts"] if it["mountPath"] == "/data")
    for it in containers:
        if {"name": data, "mountPath": "/data"} not in it["volumeMounts"]:
            yield f"{it['name']} does not see the data"
        if it["image"] != sidecar["image"]:
            yield "two versions of Litestream"
        given = {"${%s}" % variable["name"]: variable["valueFrom"]["secretKeyRef"]["name"] for variable in it["env"]}
        for replica in (database["replica"] for database in settings["dbs"]):
            if {given.get(replica[key]) for key in ("access-key-id", "secret-access-key")} != {SECRET}:
                yield f"{it['name']}: its credentials are not those of the Secret {SECRET}"
    kept = seconds(settings["snapshot"]["interval"]) + seconds(settings["snapshot"]["retention"])
    backup = toml.get("backup", {})
    if "replica_keep" not in backup or seconds(backup["replica_keep"]) < kept:
        yield "a receipt promises that the replica forgets sooner than it does"
    if "every" not in backup:
        yield "there are no backups beside the replica"
    if "objects" not in toml:
        yield "stored files are on the volume, where nothing copies them"
    ports = [port["port"] for it in manifests.all("NetworkPolicy") if it["spec"]["podSelector"].get("matchLabels") == SERVER
             for rule in it["spec"].get("egress", []) for port in rule["ports"]]
    if 443 not in ports:
        yield "it is not let out to its bucket"


def drift(manifests, minio):
    """Its configuration is the overlay's, and [backup]."""
    ours, theirs = (dict(it.configuration(it.server[1])[1]) for it in (manifests, minio))
    ours.pop("backup", None)
    if ours != theirs:
        yield f"{NAME}/dripfeed.toml says something else than the overlay's, besides [backup]"


def settings_with(old, new):
    def change(manifests):
        for it in manifests.all("ConfigMap"):
            for name, text in it["data"].items():
                it["data"][name] = text.replace(old, new)
    return change


def container(manifests, at):
    return manifests.server[1].spec["initContainers"][at]


PLANTED = [
    ("no way to the first start", lambda it: container(it, 0)["args"].remove("-if-replica-exists")),
    ("a restore over what is there", lambda it: container(it, 0)["args"].remove("-if-db-not-exists")),
    ("a replication that begins before the restore", lambda it: it.server[1].spec["initContainers"].reverse()),
    ("a start that waits for the replication to end", lambda it: container(it, 1).pop("restartPolicy")),
    ("another database", settings_with("/data/dripfeed.db", "/data/other.db")),
    ("somebody else's credentials", settings_with("${LITESTREAM_SECRET_ACCESS_KEY}", "${SECRET}")),
    ("a receipt that promises too much", settings_with('replica_keep = "48h"', 'replica_keep = "24h"')),
    ("no backups", settings_with('every = "24h"', "")),
    ("two versions", lambda it: container(it, 0).update(image="litestream/litestream:0.3.13")),
    ("the data elsewhere", lambda it: container(it, 1)["volumeMounts"].pop(0)),
]


def missed(manifests):
    """The planted faults that were not found."""
    for what, plant in PLANTED:
        broken = copy.deepcopy(manifests)
        plant(broken)
        if not list(faults(broken)):
            yield f"litestream: did not find: {what}"


def check(all_manifests):
    """Every fault of the example, and of these checks."""
    example = all_manifests[NAME]
    yield from (f"{NAME}: {fault}" for fault in faults(example))
    yield from drift(example, all_manifests["k8s/overlays/minio"])
    yield from missed(example)
