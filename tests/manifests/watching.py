"""What the component `monitoring` promises. A rule yields a sentence for each fault that it finds."""

import json
import re

import jsonschema
import expressions

# What is used of the Prometheus operator's two types, strictly: a field that is not here is a mistake, or is to be looked
# up and added (https://prometheus-operator.dev/docs/api-reference/api/).
DURATION = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
TEXT = {"type": "string", "minLength": 1}


def strict(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


METADATA = strict(["name", "namespace", "labels"], name=TEXT, namespace=TEXT, labels=LABELS)


def typed(kind, spec):
    return strict(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "monitoring.coreos.com/v1"}, kind={"const": kind}, metadata=METADATA, spec=spec,
    )


SCHEMAS = {
    "ServiceMonitor": typed("ServiceMonitor", strict(
        ["selector", "endpoints"],
        selector=strict(["matchLabels"], matchLabels=LABELS),
        endpoints={"type": "array", "minItems": 1, "items": strict(
            ["port", "path", "interval", "scrapeTimeout", "authorization"],
            port=TEXT, path=TEXT, interval=DURATION, scrapeTimeout=DURATION,
            authorization=strict(
                ["type", "credentials"],
                type={"const": "Bearer"}, credentials=strict(["name", "key"], name=TEXT, key=TEXT),
            ),
        )},
    )),
    "PrometheusRule": typed("PrometheusRule", strict(
        ["groups"],
        groups={"type": "array", "minItems": 1, "items": strict(
            ["name", "rules"],
            name=TEXT,
            rules={"type": "array", "minItems": 1, "items": strict(
                ["alert", "expr", "labels", "annotations"],
                alert={"type": "string", "pattern": "^Dripfeed[A-Z][A-Za-z]+$"},
                expr=TEXT,
                labels=strict(["severity"], severity={"enum": ["critical", "warning", "info"]}),
                annotations=strict(["summary", "description"], summary=TEXT, description=TEXT),
                **{"for": DURATION},
            )},
        )},
    )),
}
# What each alert is about has to be among them.
WATCHED = {
    "the server": "up", "dispatch runs": "dripfeed_dispatch_last_run_timestamp_seconds", "gates": "dripfeed_gate_open",
    "stuck claims": "dripfeed_stuck_claims", "late settles": "dripfeed_late_settles_total",
    "the disk": "dripfeed_disk_free_bytes", "the log": "dripfeed_wal_size_bytes",
    "backups": "dripfeed_last_backup_timestamp_seconds", "extraction": "dripfeed_extractions_total",
    "batches that pause themselves": "dripfeed_batches_auto_paused_total",
}


def fault_of_schema(it):
    """What is wrong with an object of the operator's, by what is used of its types."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(SCHEMAS[it["kind"]]).iter_errors(it))
    return error and f"{'.'.join(str(part) for part in error.path)}: {error.message}"


def secrets_of_monitors(manifests):
    """(secret, key) that Prometheus is given."""
    for monitor in manifests.all("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            credentials = endpoint["authorization"]["credentials"]
            yield credentials["name"], credentials["key"]


def alerts(manifests):
    return [rule for it in manifests.all("PrometheusRule") for group in it["spec"]["groups"] for rule in group["rules"]]


def dashboards(manifests):
    """Every dashboard that Grafana's sidecar takes, with its name."""
    for config in manifests.all("ConfigMap"):
        if config["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            for name, text in config["data"].items():
                yield name, json.loads(text)


def queries(dashboard):
    """(panel's title, expression, legend) of everything that a dashboard asks."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]


def prometheus_reads_the_metrics(manifests):
    monitors = manifests.all("ServiceMonitor")
    container = manifests.server[1].spec["containers"][0]
    shown = {it["name"]: it.get("valueFrom", {}).get("secretKeyRef") for it in container["env"]}
    taken = shown.get("DRIPFEED_METRICS_TOKEN")
    if bool(monitors) != bool(taken):
        yield "a token for the metrics and nobody who shows it, or the other way round"
    if not monitors:
        return
    for secret, key in secrets_of_monitors(manifests):
        if taken != {"name": secret, "key": key}:
            yield "Prometheus shows another token than the server takes"
    for monitor in monitors:
        selected = monitor["spec"]["selector"]["matchLabels"]
        services = [it for it in manifests.all("Service") if selected.items() <= it["metadata"].get("labels", {}).items()]
        if len(services) != 1:
            yield f"the ServiceMonitor selects {len(services)} Services"
            continue
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["path"] != "/metrics":
                yield f"nothing is at {endpoint['path']}"
            if endpoint["port"] not in [port["name"] for port in services[0]["spec"]["ports"]]:
                yield f"the Service has no port {endpoint['port']}"
            if int(endpoint["scrapeTimeout"].removesuffix("s")) > int(endpoint["interval"].removesuffix("s")):
                yield "a scrape may take longer than there is between two"
    port = container["ports"][0]["containerPort"]
    policies = [it["spec"] for it in manifests.all("NetworkPolicy")]
    let_in = [
        rule for spec in policies if spec["podSelector"].get("matchLabels") == manifests.server[0]["spec"]["selector"]["matchLabels"]
        for rule in spec.get("ingress", []) for peer in rule["from"]
        if peer.get("podSelector", {}).get("matchLabels") == {"app.kubernetes.io/name": "prometheus"}
        and "kubernetes.io/metadata.name" in peer.get("namespaceSelector", {}).get("matchLabels", {})
    ]
    if [[it["port"] for it in rule["ports"]] for rule in let_in] != [[port]]:
        yield "Prometheus is not let in to the server's port, or to more"


def alerts_say_what_to_do(manifests):
    found, names = set(), [rule["alert"] for rule in alerts(manifests)]
    if len(names) != len(set(names)):
        yield "two alerts of one name"
    for rule in alerts(manifests):
        try:
            found |= {it.name for it in expressions.selectors(expressions.parse(rule["expr"]))}
        except ValueError as error:
            yield f"{rule['alert']}: {error}"
        if "Next:" not in rule["annotations"]["description"]:
            yield f"{rule['alert']} does not say what to do next"
        if rule["annotations"]["summary"].endswith("."):
            yield f"{rule['alert']}: a summary is no sentence"
    if names:
        yield from (f"nothing watches {what}" for what, metric in WATCHED.items() if metric not in found)


def dashboards_are_sound(manifests):
    if manifests.all("ServiceMonitor") and not list(dashboards(manifests)):
        yield "there is no dashboard that Grafana would take"
    for name, dashboard in dashboards(manifests):
        panels = dashboard["panels"]
        if len({it["id"] for it in panels}) != len(panels) or len({it["title"] for it in panels}) != len(panels):
            yield f"{name}: two panels of one id or title"
        variables = {it["name"] for it in dashboard["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z_]+)", json.dumps(dashboard))) - {"__rate_interval"}
        if variables != used:
            yield f"{name}: its variables are {variables}, and {used} are used"
        taken = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            if cells & taken or place["x"] + place["w"] > 24:
                yield f"{name}: {panel['title']} lies over another panel, or beyond the edge"
            taken |= cells
            if panel["type"] != "row" and not (panel.get("description") and panel.get("targets")):
                yield f"{name}: {panel['title']} does not say what it is, or shows nothing"
        for title, expression, _ in queries(dashboard):
            try:
                wanted = expressions.selectors(expressions.parse(expression))
                if any("instance" not in [it.name for it in selector.matchers.matchers] for selector in wanted):
                    yield f"{name}: {title} does not heed the instance that is chosen"
            except ValueError as error:
                yield f"{name}: {title}: {error}"


RULES = [prometheus_reads_the_metrics, alerts_say_what_to_do, dashboards_are_sound]


def shown(manifests, scrape):
    """What alerts and dashboards ask for and a real scrape does not tell, and what it tells and no dashboard shows."""
    seen = set()
    for rule in alerts(manifests):
        used = re.findall(r"\$labels\.([a-z_]+)", json.dumps(rule["annotations"]))
        yield from (f"{rule['alert']}: {fault}" for fault in scrape.faults(rule["expr"], used))
    for _, dashboard in dashboards(manifests):
        for title, expression, legend in queries(dashboard):
            used = re.findall(r"\{\{ *([a-z_]+) *\}\}", legend)
            yield from (f"{title}: {fault}" for fault in scrape.faults(expression, used))
            seen |= {scrape.family(it.name) for it in expressions.selectors(expressions.parse(expression))}
    yield from (f"no panel shows {family}" for family in sorted(scrape.families - seen))
