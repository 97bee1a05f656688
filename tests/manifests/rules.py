"""What the manifests promise. A rule yields a sentence for each fault that it finds."""

import kubernetes_validate

import watching
from manifests import DISPATCH, REPOSITORY, SERVER, VARIABLE, seconds

# The oldest Kubernetes that k8s/README.md names, and the newest that the validator knows.
KUBERNETES = ["1.31", "1.37"]
# How long `dripfeed dispatch` waits for an answer (src/cli/dispatch.rs).
DISPATCH_TIMEOUT = 30
# Left of the grace period once the drain is over.
CLOSING = 10
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


def every_object_has_its_schema(manifests):
    for it in manifests.objects:
        if it["kind"] in watching.SCHEMAS:
            if fault := watching.fault_of_schema(it):
                yield f"{it['kind']}/{it['metadata'].get('name')}: {fault}"
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(it, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                yield f"{it['kind']}/{it['metadata'].get('name')} in {version}: {where}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{it['kind']} in {version}: {error.message}"


def everything_is_in_the_namespace(manifests):
    for it in manifests.objects:
        if it["kind"] != "Namespace" and it["metadata"].get("namespace") != "dripfeed":
            yield f"{it['kind']}/{it['metadata']['name']} is not in the namespace"
    labels = manifests.named("Namespace", "dripfeed")["metadata"].get("labels", {})
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce the restricted level"


def what_is_named_is_there(manifests):
    for pod in manifests.pods():
        if not manifests.named("ServiceAccount", pod.spec.get("serviceAccountName")):
            yield f"{pod.owner}: there is no such ServiceAccount"
        for container in pod.containers:
            for mount in container.get("volumeMounts", []):
                if not pod.volume(mount["name"]):
                    yield f"{pod.owner}: there is no volume {mount['name']}"
        for volume in pod.spec.get("volumes", []):
            name = volume.get("configMap", {}).get("name")
            if name and not manifests.named("ConfigMap", name):
                yield f"{pod.owner}: there is no ConfigMap {name}"
    for it in manifests.all("StatefulSet"):
        selector = it["spec"]["selector"]["matchLabels"]
        if not selector.items() <= it["spec"]["template"]["metadata"]["labels"].items():
            yield f"StatefulSet/{it['metadata']['name']} does not select its own pods"
        if not manifests.named("Service", it["spec"]["serviceName"]):
            yield f"StatefulSet/{it['metadata']['name']}: there is no Service {it['spec']['serviceName']}"
    for ingress in manifests.all("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = manifests.named("Service", backend["name"])
                if backend["port"]["name"] not in [port["name"] for port in service["spec"]["ports"]]:
                    yield f"the ingress names no port of {backend['name']}"


def services_reach_one_pod(manifests):
    for service in manifests.all("Service"):
        name = service["metadata"]["name"]
        pods = manifests.pods_with(service["spec"]["selector"])
        if len(pods) != 1:
            yield f"Service/{name} selects {len(pods)} pods"
            continue
        ports = {port["name"] for container in pods[0].containers for port in container.get("ports", [])}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service/{name}: the pod has no port {port['targetPort']}"


def pods_have_no_powers(manifests):
    for pod in manifests.pods():
        context = pod.spec.get("securityContext", {})
        expected = {
            "runAsNonRoot is true": context.get("runAsNonRoot") is True,
            "the user is a number, not root's": context.get("runAsUser", 0) > 0,
            "the group is a number, not root's": context.get("runAsGroup", 0) > 0,
            "seccomp is RuntimeDefault": context.get("seccompProfile") == {"type": "RuntimeDefault"},
            "no token of the Kubernetes API": pod.spec.get("automountServiceAccountToken") is False,
            "no variables of services": pod.spec.get("enableServiceLinks") is False,
            "nothing of the host": not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
            and not any("hostPath" in volume for volume in pod.spec.get("volumes", [])),
            "a volume belongs to the group": not pod.claims or context.get("fsGroup", 0) > 0,
        }
        for container in pod.containers:
            own, name = container.get("securityContext", {}), container["name"]
            expected |= {
                f"{name}: the root is read-only": own.get("readOnlyRootFilesystem") is True,
                f"{name}: no escalation": own.get("allowPrivilegeEscalation") is False,
                f"{name}: no capabilities": own.get("capabilities") == {"drop": ["ALL"]},
                f"{name}: nothing is taken back": not {"privileged", "runAsUser", "runAsNonRoot"} & own.keys(),
            }
        yield from (f"{pod.owner}: expected: {what}" for what, holds in expected.items() if not holds)


def images_are_pinned(manifests):
    for pod in manifests.pods():
        for container in pod.containers:
            image = container["image"]
            name, _, tag = image.rpartition(":")
            if "@sha256:" not in image and (not name or "/" in tag or tag == "latest"):
                yield f"{pod.owner}: {image} has no tag of its own"


def resources_are_bounded(manifests):
    for pod in manifests.pods():
        for container in pod.containers:
            resources = container.get("resources", {})
            for kind in ("requests", "limits"):
                for what in ("cpu", "memory"):
                    if what not in resources.get(kind, {}):
                        yield f"{pod.owner}: {container['name']} has no {what} among its {kind}"
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.owner}: the volume {volume['name']} may fill the node"


def no_secret_is_written_down(manifests):
    if manifests.all("Secret"):
        yield "there is a Secret among the manifests"
    for pod in manifests.pods():
        for container in pod.containers:
            for variable in container.get("env", []):
                if "value" in variable and any(word in variable["name"] for word in SECRET_WORDS):
                    yield f"{pod.owner}: {variable['name']} is written out"
                if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("optional"):
                    yield f"{pod.owner}: {variable['name']} may be missing"
    for pod in (manifests.server[1], manifests.cronjob[1]):
        _, toml = manifests.configuration(pod)
        if "access" in toml:
            yield f"{pod.owner}: the configuration has tokens; they come from Secrets"
        for path, value in leaves(toml):
            is_secret = any(word in part.upper() for part in path for word in (*SECRET_WORDS, "AUTHORIZATION"))
            if is_secret and isinstance(value, str) and not VARIABLE.search(value):
                yield f"{pod.owner}: {'.'.join(path)} is written out in the configuration"


def secrets_are_explained(manifests):
    readme = (REPOSITORY / "k8s/README.md").read_text()
    taken = {reference for pod in manifests.pods() for reference in pod.secrets()}
    taken |= set(watching.secrets_of_monitors(manifests))
    for ingress in manifests.all("Ingress"):
        taken |= {(tls["secretName"], None) for tls in ingress["spec"]["tls"]}
    for secret, key in sorted(taken, key=str):
        lines = [line for line in readme.splitlines() if f" {secret}" in line]
        if not lines:
            yield f"k8s/README.md does not say how the Secret {secret} is made"
        elif key and not any(key in line.split(secret, 1)[1] for line in lines):
            yield f"k8s/README.md does not say what the key {key} of the Secret {secret} is"


def there_is_one_server(manifests):
    statefulset, pod = manifests.server
    if statefulset["spec"].get("replicas") != 1:
        yield "the server has not exactly one replica"
    kept = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    if statefulset["spec"].get("persistentVolumeClaimRetentionPolicy") != kept:
        yield "the volume goes with the StatefulSet"
    if statefulset["spec"].get("podManagementPolicy") != "Parallel":
        yield "a pod that never gets ready would not be replaced"
    if len(manifests.pods_with(SERVER)) != 1:
        yield "there is more than one server"
    budgets = [it["spec"] for it in manifests.all("PodDisruptionBudget")]
    if [(it["selector"]["matchLabels"], it.get("maxUnavailable")) for it in budgets] != [(SERVER, 1)]:
        yield "no budget, or one that stands in the way of a node that is drained"
    limits = pod.spec["containers"][0]["resources"]["limits"]
    if limits["memory"] != "128Mi":
        yield "the server's memory is not what the figures say"


def the_server_is_probed(manifests):
    container = manifests.server[1].spec["containers"][0]
    probes = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in probes.items():
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http"}:
            yield f"the {probe} does not ask {path}"
    startup = container.get("startupProbe", {})
    if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) < 60:
        yield "a start has less than a minute"


def the_server_ends_in_time(manifests):
    _, pod = manifests.server
    _, toml = manifests.configuration(pod)
    drain = seconds(toml["workers"]["drain"])
    if pod.spec.get("terminationGracePeriodSeconds", 30) < drain + CLOSING:
        yield f"the grace period leaves less than {CLOSING}s after a drain of {drain}s"


def the_server_is_configured(manifests):
    _, pod = manifests.server
    container = pod.spec["containers"][0]
    _, toml = manifests.configuration(pod)
    address, _, port = toml["server"]["listen"].rpartition(":")
    if address not in ("0.0.0.0", "[::]"):
        yield "the server does not listen where its Service finds it"
    listens = {"http": int(port)}
    if "--ops-listen" in container["args"]:
        listens["ops"] = int(container["args"][container["args"].index("--ops-listen") + 1].rpartition(":")[2])
    if listens != {it["name"]: it["containerPort"] for it in container["ports"]}:
        yield "the server listens on other ports than the pod's"
    mounts = {it["mountPath"]: it for it in container["volumeMounts"]}
    data = mounts.get(toml["storage"]["data_dir"])
    if not data or "claim" not in pod.volume(data["name"]):
        yield "the data are not on the volume that is claimed"
    given = {it["name"] for it in container["env"]}
    if not {"DRIPFEED_KEYS", "DRIPFEED_OPERATOR_TOKEN", "DRIPFEED_DISPATCH_TOKEN"} <= given:
        yield "the server lacks its keys or tokens"
    if "key_file" in toml.get("encryption", {}):
        yield "the keys come from a file"
    readme = (REPOSITORY / "k8s/README.md").read_text()
    for name in wanted(toml) - given:
        if not container.get("envFrom") or name not in readme:
            yield f"${{{name}}} in the configuration comes from nowhere, or the README is silent about it"


def the_cronjob_is_the_clock(manifests):
    cronjob, _ = manifests.cronjob
    spec, job = cronjob["spec"], cronjob["spec"]["jobTemplate"]["spec"]
    dispatch = manifests.configuration(manifests.server[1])[1]["dispatch"]
    late = spec.get("startingDeadlineSeconds", 1_000_000)
    expected = {
        "no built-in clock beside it": "every" not in dispatch,
        "each minute": spec["schedule"] == "* * * * *",
        "what the server expects": seconds(dispatch["expect_every"]) == 60,
        "one at a time": spec.get("concurrencyPolicy") == "Forbid",
        "it is not suspended": not spec.get("suspend"),
        "a deadline that the controller can keep": late >= 10,
        "a late tick does not make the next one too early": late + seconds(dispatch["min_interval"]) < 60,
        "a job that waits for its answer": job.get("activeDeadlineSeconds", 0) > DISPATCH_TIMEOUT,
        "a job that is over before the next one": job.get("activeDeadlineSeconds", 60) < 60,
        "few tries": job.get("backoffLimit", 6) <= 2,
        "a short history": spec.get("successfulJobsHistoryLimit", 9) <= 1 and spec.get("failedJobsHistoryLimit", 9) <= 3,
    }
    yield from (f"the CronJob: expected: {what}" for what, holds in expected.items() if not holds)


def the_cronjob_can_only_dispatch(manifests):
    _, pod = manifests.cronjob
    secrets = set(pod.secrets())
    if secrets != {("dripfeed-dispatch", "token")}:
        yield f"the CronJob holds {sorted(secrets, key=str)}"
    container = pod.spec["containers"][0]
    if [it["name"] for it in container["env"]] != ["DRIPFEED_CONFIG", "DRIPFEED_DISPATCH_TOKEN"]:
        yield "the CronJob has other variables than its configuration and its token"
    if wanted(manifests.configuration(pod)[1]):
        yield "the CronJob's configuration asks for variables"
    if any("configMap" not in volume for volume in pod.spec.get("volumes", [])):
        yield "the CronJob has a volume that is no configuration"


def the_cronjob_finds_the_server(manifests):
    container = manifests.cronjob[1].spec["containers"][0]
    server = manifests.server[1].spec["containers"][0]
    service = manifests.named("Service", "dripfeed")
    ports = {port["targetPort"]: port["port"] for port in service["spec"]["ports"]}
    # Where operators have a port of their own, so have tokens.
    url = f"http://{service['metadata']['name']}:{ports.get('ops', ports['http'])}"
    if container["args"] != ["dispatch", "--url", url]:
        yield f"the CronJob does not run `dispatch --url {url}`"
    if container["image"] != server["image"]:
        yield "the CronJob runs another image than the server"


def what_an_ingress_lets_in_is_no_operator(manifests):
    """Who comes from outside comes to the clients' port, by a proxy that is believed, and finds no operator's call there."""
    ingresses = manifests.all("Ingress")
    if not ingresses:
        return
    _, toml = manifests.configuration(manifests.server[1])
    if not toml["server"].get("trusted_proxies"):
        yield "the ingress controller is not among server.trusted_proxies"
    if "--ops-listen" not in manifests.server[1].spec["containers"][0]["args"]:
        yield "operators are let in by the port that the ingress leads to"
    for ingress in ingresses:
        paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        if any(path["backend"]["service"]["port"] != {"name": "http"} for path in paths):
            yield "the ingress leads to another port than the clients'"
    for policy in manifests.all("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            is_outside = any("namespaceSelector" in peer for peer in rule["from"])
            if is_outside and {port["port"] for port in rule["ports"]} != {8080}:
                yield f"NetworkPolicy/{policy['metadata']['name']} lets others than this namespace in to the operators' port"


def the_network_is_closed(manifests):
    policies = manifests.all("NetworkPolicy")
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if [it for it in policies if it["spec"] == closed] == []:
        yield "nothing is denied by default"
    for policy in policies:
        name, spec = policy["metadata"]["name"], policy["spec"]
        selector = spec["podSelector"].get("matchLabels", {})
        if not manifests.pods_with(selector):
            yield f"NetworkPolicy/{name} is about no pod"
        ports = listened(manifests.pods_with(selector))
        for rule in spec.get("ingress", []):
            if not rule.get("from") or not rule.get("ports") or not {it["port"] for it in rule["ports"]} <= ports:
                yield f"NetworkPolicy/{name} lets in anybody, or to a port that is none"
        for rule in spec.get("egress", []):
            if not rule.get("to") or not rule.get("ports"):
                yield f"NetworkPolicy/{name} lets out to anybody"
            for peer in rule.get("to", []):
                yield from open_peer(manifests, name, peer, rule.get("ports", []))


def open_peer(manifests, name, peer, ports):
    """Who is named is there, and link-local addresses are not."""
    block = peer.get("ipBlock", {})
    if block.get("cidr") in ("0.0.0.0/0", "::/0") and not set(block.get("except", [])) & {"169.254.0.0/16", "fe80::/10"}:
        yield f"NetworkPolicy/{name} lets out to what a cloud offers its nodes"
    labels = peer.get("podSelector", {}).get("matchLabels")
    if labels and "namespaceSelector" not in peer:
        pods = manifests.pods_with(labels)
        if not pods or not {port["port"] for port in ports} <= listened(pods):
            yield f"NetworkPolicy/{name} lets out to a pod or port that is not there"


def listened(pods):
    """The ports of pods, by number."""
    return {port["containerPort"] for pod in pods for it in pod.containers for port in it.get("ports", [])}


def the_bucket_is_reached(manifests):
    _, toml = manifests.configuration(manifests.server[1])
    if "objects" not in toml:
        return
    host, _, port = toml["objects"]["endpoint"].removeprefix("http://").rpartition(":")
    service = manifests.named("Service", host)
    if not service or int(port) not in [it["port"] for it in service["spec"]["ports"]]:
        yield "the endpoint of the bucket is no Service here"
        return
    minio = service["spec"]["selector"]

    def allows(policy, side, whom, other):
        spec = policy["spec"]
        peers = [peer for rule in spec.get(side, []) for peer in rule.get("to", rule.get("from", []))]
        return spec["podSelector"].get("matchLabels") == whom and {"podSelector": {"matchLabels": other}} in peers

    policies = manifests.all("NetworkPolicy")
    if not any(allows(it, "egress", SERVER, minio) for it in policies):
        yield "the server is not let out to the bucket"
    if not any(allows(it, "ingress", minio, SERVER) for it in policies):
        yield "the server is not let in to the bucket"


def the_dispatch_policy_reaches_the_server(manifests):
    for it in manifests.all("NetworkPolicy"):
        spec = it["spec"]
        if spec["podSelector"].get("matchLabels") == DISPATCH:
            rules = spec.get("egress", [])
            if [rule.get("to") for rule in rules] != [[{"podSelector": {"matchLabels": SERVER}}]]:
                yield "the CronJob is let out to more than the server"
            port = int(manifests.cronjob[1].spec["containers"][0]["args"][-1].rpartition(":")[2])
            if any([it["port"] for it in rule["ports"]] != [port] for rule in rules):
                yield "the CronJob is let out to another port than it calls"
            return
    yield "the CronJob is not let out to the server"


def leaves(value, path=()):
    """Every value in a TOML document, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def wanted(toml):
    """The variables that a configuration asks for."""
    return {name for _, value in leaves(toml) if isinstance(value, str) for name in VARIABLE.findall(value)}


RULES = [
    every_object_has_its_schema,
    everything_is_in_the_namespace,
    what_is_named_is_there,
    services_reach_one_pod,
    pods_have_no_powers,
    images_are_pinned,
    resources_are_bounded,
    no_secret_is_written_down,
    secrets_are_explained,
    there_is_one_server,
    the_server_is_probed,
    the_server_ends_in_time,
    the_server_is_configured,
    the_cronjob_is_the_clock,
    the_cronjob_can_only_dispatch,
    the_cronjob_finds_the_server,
    what_an_ingress_lets_in_is_no_operator,
    the_network_is_closed,
    the_dispatch_policy_reaches_the_server,
    the_bucket_is_reached,
    *watching.RULES,
]
