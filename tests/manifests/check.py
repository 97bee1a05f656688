"""Holds rendered manifests against the rules, and the rules against planted faults."""

import sys

import litestream
import planted
from manifests import read
from rules import RULES


def drift(all_manifests):
    """What two of the kustomizations say, they say alike."""
    base, minio = (all_manifests[name] for name in ("k8s/base", "k8s/overlays/minio"))
    ours, theirs = (dict(it.configuration(it.server[1])[1]) for it in (base, minio))
    if not theirs.pop("objects", None):
        yield "k8s/overlays/minio/dripfeed.toml has no [objects]"
    if ours != theirs:
        yield "k8s/overlays/minio/dripfeed.toml says something else than the base's, besides [objects]"
    ingress = all_manifests["k8s/examples/ingress"]
    behind = dict(ingress.configuration(ingress.server[1])[1])
    behind["server"] = {key: value for key, value in behind["server"].items() if key != "trusted_proxies"}
    if ours != behind:
        yield "k8s/examples/ingress/dripfeed.toml says something else than the base's, besides trusted_proxies"


def main(folder):
    all_manifests = read(folder)
    passed, faults = 0, []
    for manifests in all_manifests.values():
        for rule in RULES:
            found = list(rule(manifests))
            passed += not found
            faults += [f"{manifests.name}: {rule.__name__}: {fault}" for fault in found]
    found = list(drift(all_manifests))
    passed += not found
    faults += found
    found = list(litestream.check(all_manifests))
    passed += not found
    faults += found
    found = list(planted.missed(all_manifests))
    faults_planted = len(planted.PLANTED) + len(planted.PLANTED_WATCHING) + len(planted.PLANTED_INGRESS) + len(planted.UNANSWERED)
    passed += faults_planted - len(found)
    faults += [f"planted: {fault}" for fault in found]
    for fault in faults:
        print(f"FAULT {fault}")
    objects = sum(len(it.objects) for it in all_manifests.values())
    print(f"manifests: {len(all_manifests)} kustomizations, {objects} objects, {faults_planted} planted faults")
    print(f"manifests: {passed} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
