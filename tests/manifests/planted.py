"""Faults, each with the rule that has to find it: a rule that finds nothing is no rule."""

import copy

import watching
from expressions import Scrape
from manifests import literal
from rules import RULES


def server(manifests):
    return manifests.server[1].spec["containers"][0]


def cronjob(manifests):
    return manifests.cronjob[1].spec["containers"][0]


def replace(manifests, pod, old, new):
    """Changes a pod's configuration, where it says `old`."""
    name = literal(pod.spec["containers"][0], "DRIPFEED_CONFIG").rpartition("/")[2]
    for config in manifests.all("ConfigMap"):
        if name in config["data"]:
            assert old in config["data"][name], old
            config["data"][name] = config["data"][name].replace(old, new, 1)


def configure(old, new):
    return lambda it: replace(it, it.server[1], old, new)


def drop(container, name):
    """Takes a variable away."""
    container["env"].remove(next(it for it in container["env"] if it["name"] == name))


def policy(manifests, name):
    return manifests.named("NetworkPolicy", name)["spec"]


def secret_variable(name, secret, key):
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


# (the rule, what is wrong, how it is made wrong)
PLANTED = [
    ("every_object_has_its_schema", "a field of another name", lambda it: server(it).update(readynessProbe={})),
    ("every_object_has_its_schema", "a field at another place", lambda it: it.server[0]["spec"].update(terminationGracePeriodSeconds=45)),
    ("every_object_has_its_schema", "a text for a number", lambda it: it.server[0]["spec"].update(replicas="1")),
    ("every_object_has_its_schema", "no such version", lambda it: it.cronjob[0].update(apiVersion="batch/v1beta1")),
    ("everything_is_in_the_namespace", "an object elsewhere", lambda it: it.cronjob[0]["metadata"].update(namespace="default")),
    ("what_is_named_is_there", "a mount without a volume", lambda it: server(it)["volumeMounts"][0].update(name="dta")),
    ("what_is_named_is_there", "a ConfigMap by its unhashed name", lambda it: it.cronjob[1].spec["volumes"][0]["configMap"].update(name="dripfeed-other")),
    ("services_reach_one_pod", "a Service for nobody", lambda it: it.named("Service", "dripfeed")["spec"]["selector"].update({"app.kubernetes.io/component": "sever"})),
    ("services_reach_one_pod", "a port that is none", lambda it: it.named("Service", "dripfeed")["spec"]["ports"][0].update(targetPort="htpp")),
    ("pods_have_no_powers", "a writable root", lambda it: server(it)["securityContext"].update(readOnlyRootFilesystem=False)),
    ("pods_have_no_powers", "a user of root's", lambda it: it.cronjob[1].spec["securityContext"].update(runAsUser=0)),
    ("pods_have_no_powers", "a capability", lambda it: server(it)["securityContext"]["capabilities"].update(add=["NET_ADMIN"])),
    ("pods_have_no_powers", "no seccomp", lambda it: it.server[1].spec["securityContext"].pop("seccompProfile")),
    ("images_are_pinned", "the latest", lambda it: server(it).update(image="registry.example.com:5000/dripfeed:latest")),
    ("images_are_pinned", "no tag, but a port", lambda it: server(it).update(image="registry.example.com:5000/dripfeed")),
    ("resources_are_bounded", "no limit", lambda it: cronjob(it)["resources"].pop("limits")),
    ("no_secret_is_written_down", "a token in the open", lambda it: cronjob(it)["env"].append({"name": "MY_TOKEN", "value": "0123456789abcdef"})),
    ("no_secret_is_written_down", "a header in the open", configure("Bearer ${ADDRESSES_TOKEN}", "Bearer 0123456789abcdef")),
    ("no_secret_is_written_down", "a Secret", lambda it: it.objects.append({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x", "namespace": "dripfeed"}})),
    ("secrets_are_explained", "a Secret that nobody told of", lambda it: server(it)["env"].append(secret_variable("OTHER", "dripfeed-other", "token"))),
    ("secrets_are_explained", "a key that nobody told of", lambda it: server(it)["env"].append(secret_variable("OTHER", "dripfeed-operator", "pasword"))),
    ("there_is_one_server", "two replicas", lambda it: it.server[0]["spec"].update(replicas=2)),
    ("there_is_one_server", "a rollout that waits for ever", lambda it: it.server[0]["spec"].pop("podManagementPolicy")),
    ("there_is_one_server", "a budget that holds nodes up", lambda it: it.all("PodDisruptionBudget")[0]["spec"].update(maxUnavailable=0)),
    ("the_server_is_probed", "the wrong probe", lambda it: server(it)["livenessProbe"]["httpGet"].update(path="/readyz")),
    ("the_server_ends_in_time", "a longer drain", configure('drain = "20s"', 'drain = "1m"')),
    ("the_server_is_configured", "loopback", configure("0.0.0.0:8080", "127.0.0.1:8080")),
    ("the_server_is_configured", "data in the container", configure('data_dir = "/data"', 'data_dir = "/var/data"')),
    ("the_server_is_configured", "a variable from nowhere", configure("${INVITES_TOKEN}", "${INVITE_TOKEN}")),
    ("the_server_is_configured", "keys on the volume", lambda it: drop(server(it), "DRIPFEED_KEYS")),
    ("the_cronjob_is_the_clock", "two clocks", configure("[dispatch]", '[dispatch]\nevery = "60s"')),
    ("the_cronjob_is_the_clock", "ticks too early", configure('min_interval = "30s"', 'min_interval = "45s"')),
    ("the_cronjob_is_the_clock", "ticks beside each other", lambda it: it.cronjob[0]["spec"].update(concurrencyPolicy="Allow")),
    ("the_cronjob_is_the_clock", "a job that outlives its minute", lambda it: it.cronjob[0]["spec"]["jobTemplate"]["spec"].update(activeDeadlineSeconds=90)),
    ("the_cronjob_can_only_dispatch", "an operator's token", lambda it: cronjob(it)["env"].append(secret_variable("DRIPFEED_OPERATOR_TOKEN", "dripfeed-operator", "token"))),
    ("the_cronjob_can_only_dispatch", "the server's configuration", lambda it: replace(it, it.cronjob[1], "https://never-called.invalid", "https://${HOST}")),
    ("the_cronjob_finds_the_server", "another port", lambda it: cronjob(it).update(args=["dispatch", "--url", "http://dripfeed:80"])),
    ("the_network_is_closed", "no default", lambda it: it.objects.remove(it.named("NetworkPolicy", "default-deny"))),
    ("the_network_is_closed", "everybody let in", lambda it: policy(it, "server")["ingress"][0].pop("from")),
    ("the_network_is_closed", "the node's own addresses", lambda it: policy(it, "server")["egress"][0]["to"][0]["ipBlock"].pop("except")),
    ("the_network_is_closed", "a policy about nobody", lambda it: policy(it, "server")["podSelector"]["matchLabels"].update({"app.kubernetes.io/component": "x"})),
    ("the_dispatch_policy_reaches_the_server", "a CronJob that is shut in", lambda it: policy(it, "dispatch").update(egress=[])),
    ("the_bucket_is_reached", "another port", configure("dripfeed-minio:9000", "dripfeed-minio:9001")),
    ("the_bucket_is_reached", "no way out", lambda it: it.objects.remove(it.named("NetworkPolicy", "server-to-minio"))),
]


def monitor(manifests):
    return manifests.all("ServiceMonitor")[0]["spec"]


def alert(manifests, name):
    return next(rule for rule in watching.alerts(manifests) if rule["alert"] == name)


def redraw(old, new):
    """Changes the dashboard, where it says `old`."""

    def change(manifests):
        config = manifests.named("ConfigMap", "dripfeed-dashboard")
        for name, text in config["data"].items():
            assert old in text, old
            config["data"][name] = text.replace(old, new, 1)

    return change


# The same, in what the component `monitoring` is put on.
PLANTED_WATCHING = [
    ("every_object_has_its_schema", "a field of another name", lambda it: monitor(it)["endpoints"][0].update(schemes="http")),
    ("every_object_has_its_schema", "a time without a unit", lambda it: alert(it, "DripfeedDown").update({"for": "3"})),
    ("every_object_has_its_schema", "a severity that nobody routes", lambda it: alert(it, "DripfeedDown")["labels"].update(severity="bad")),
    ("everything_is_in_the_namespace", "a monitor elsewhere", lambda it: it.all("ServiceMonitor")[0]["metadata"].update(namespace="default")),
    ("secrets_are_explained", "a token that nobody told of", lambda it: monitor(it)["endpoints"][0]["authorization"]["credentials"].update(name="dripfeed-other")),
    ("prometheus_reads_the_metrics", "another token", lambda it: monitor(it)["endpoints"][0]["authorization"]["credentials"].update(name="dripfeed-operator")),
    ("prometheus_reads_the_metrics", "a server without the token", lambda it: drop(server(it), "DRIPFEED_METRICS_TOKEN")),
    ("prometheus_reads_the_metrics", "a token and no monitor", lambda it: it.objects.remove(it.all("ServiceMonitor")[0])),
    ("prometheus_reads_the_metrics", "no Service", lambda it: monitor(it)["selector"]["matchLabels"].update({"app.kubernetes.io/name": "dripfed"})),
    ("prometheus_reads_the_metrics", "another port", lambda it: monitor(it)["endpoints"][0].update(port="metrics")),
    ("prometheus_reads_the_metrics", "another path", lambda it: monitor(it)["endpoints"][0].update(path="/metric")),
    ("prometheus_reads_the_metrics", "a slow scrape", lambda it: monitor(it)["endpoints"][0].update(scrapeTimeout="40s")),
    ("prometheus_reads_the_metrics", "no way in", lambda it: it.objects.remove(it.named("NetworkPolicy", "server-from-prometheus"))),
    ("prometheus_reads_the_metrics", "a whole namespace let in", lambda it: policy(it, "server-from-prometheus")["ingress"][0]["from"][0].pop("podSelector")),
    ("alerts_say_what_to_do", "no expression", lambda it: alert(it, "DripfeedGateClosed").update(expr="dripfeed_gate_open = 0")),
    ("alerts_say_what_to_do", "a rate of no range", lambda it: alert(it, "DripfeedLateSettles").update(expr="rate(dripfeed_late_settles_total) > 0")),
    ("alerts_say_what_to_do", "nothing to do", lambda it: alert(it, "DripfeedDown")["annotations"].update(description="It is down.")),
    ("alerts_say_what_to_do", "one name twice", lambda it: alert(it, "DripfeedDown").update(alert="DripfeedDiskLow")),
    ("alerts_say_what_to_do", "nobody looks at the gates", lambda it: alert(it, "DripfeedGateClosed").update(expr="up == 0")),
    ("dashboards_are_sound", "no label", lambda it: it.named("ConfigMap", "dripfeed-dashboard")["metadata"].pop("labels")),
    ("dashboards_are_sound", "a broken expression", redraw("sum by (status) (", "sum by status (")),
    ("dashboards_are_sound", "every instance at once", redraw('dripfeed_gate_open{instance=~\\"$instance\\"}', "dripfeed_gate_open")),
    ("dashboards_are_sound", "panels over each other", redraw('"x": 8', '"x": 7')),
    ("dashboards_are_sound", "a variable that is none", redraw('=~\\"$instance', '=~\\"$node')),
]



# The same for what is reached from outside.
PLANTED_INGRESS = [
    ("what_an_ingress_lets_in_is_no_operator", "a proxy that is not believed", configure('trusted_proxies = ["10.0.0.0/8"]', "")),
    ("what_an_ingress_lets_in_is_no_operator", "one port for all", lambda it: server(it).update(args=["serve"])),
    ("what_an_ingress_lets_in_is_no_operator", "the operators' port behind the ingress", lambda it: it.all("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"].update(name="ops")),
    ("what_an_ingress_lets_in_is_no_operator", "the controller at the operators' port", lambda it: policy(it, "server-from-ingress")["ingress"][0]["ports"][0].update(port=8081)),
    ("the_server_is_configured", "another port for operators", lambda it: server(it)["args"].__setitem__(2, "0.0.0.0:9999")),
    ("the_cronjob_finds_the_server", "a tick at the clients' port", lambda it: cronjob(it)["args"].__setitem__(2, "http://dripfeed:8080")),
    ("the_dispatch_policy_reaches_the_server", "a way to another port", lambda it: policy(it, "dispatch")["egress"][0]["ports"][0].update(port=8080)),
]


# A scrape, an expression that it answers, and some that it does not.
SCRAPE = Scrape(
    "# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 1\na_total{x=\"3\",y=\"2\"} 1\n"
    "# TYPE b_seconds histogram\nb_seconds_bucket{le=\"+Inf\"} 1\nb_seconds_sum 1\nb_seconds_count 1\n"
)
ANSWERED = 'sum by (x, namespace) (rate(a_total{x="1",y!="2",instance=~"$instance"}[$__rate_interval])) > 0'
UNANSWERED = [
    ("rate(a_total", "rate(c_total"), ('x="1"', 'z="1"'), ('x="1"', 'x="2"'), ("by (x", "by (z"), ("a_total", "a"),
    ("> 0", "> b_seconds"), ("> 0", "> on (z) b_seconds_count"),
]


def unanswered():
    """What is wrong with the comparison of expressions with a scrape."""
    if faults := list(SCRAPE.faults(ANSWERED, ["y"])):
        yield f"in a good expression: {faults}"
    if not list(SCRAPE.faults(ANSWERED, ["le"])):
        yield "not found: a legend of a label that is not there"
    for old, new in UNANSWERED:
        if not list(SCRAPE.faults(ANSWERED.replace(old, new))):
            yield f"not found: {new} for {old}"
    if SCRAPE.family("b_seconds_bucket") != "b_seconds" or SCRAPE.family("c_total"):
        yield "families are not found"


def missed(all_manifests):
    """The planted faults that no rule, or the wrong one, found."""
    rules = {rule.__name__: rule for rule in RULES}
    everywhere = {
        "k8s/overlays/minio": PLANTED,
        "k8s/examples/monitoring": PLANTED_WATCHING,
        "k8s/examples/ingress": PLANTED_INGRESS,
    }
    yield from unanswered()
    for rule in rules.keys() - {name for planted in everywhere.values() for name, _, _ in planted}:
        yield f"{rule}: nothing is planted for it"
    for manifests, planted in everywhere.items():
        for name, what, plant in planted:
            broken = copy.deepcopy(all_manifests[manifests])
            plant(broken)
            if not list(rules[name](broken)):
                yield f"{name} did not find: {what}"
