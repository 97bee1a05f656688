"""Runs the binary with what the manifests give it: the configurations, the variables, the commands, the probes."""

import contextlib
import functools
import http.server
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.error
import urllib.request

import watching
from dockerfile import Dockerfile, listed
from expressions import Scrape
from manifests import REPOSITORY, read
from rules import wanted

DEADLINE = 30


class Fault(Exception):
    """What does not hold."""


def expect(holds, what):
    if not holds:
        raise Fault(what)


def variables(pod, toml, secrets):
    """The variables of a pod's container, with a stand-in for what comes out of Secrets."""
    container = pod.spec["containers"][0]
    found = {}
    for it in container["env"]:
        reference = it.get("valueFrom", {}).get("secretKeyRef")
        name = it["name"]
        found[name] = it["value"] if "value" in it else secrets(reference["name"], reference["key"])
    if container.get("envFrom"):
        found |= {name: f"stand-in-for-{name}" for name in wanted(toml) if name not in found}
    return found


class Place:
    """An empty folder, and the binary that is run in it with nothing but the variables that it is given."""

    # By what name commands in here call the server.
    server = "127.0.0.1"

    def __init__(self, folder, binary):
        self.folder, self.binary = pathlib.Path(folder), binary
        self.data = str(self.folder / "data")

    @functools.cached_property
    def keys(self):
        return self.run(["keys", "generate"], {}).stdout.strip()

    def secrets(self, name, key):
        return self.keys if name == "dripfeed-keys" else f"stand-in-for-{name}-{key}"

    def write(self, name, text):
        """Writes a configuration; its path as the binary sees it."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def start(self, arguments, env, **pipes):
        return subprocess.Popen([self.binary, *arguments], env=env, cwd=self.folder, text=True, **pipes)

    def run(self, arguments, env):
        process = self.start(arguments, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def configurations_are_valid(place, manifests):
    """Both configurations load with the variables that their pods have, and say what the manifests rely on."""
    for pod in (manifests.server[1], manifests.cronjob[1]):
        text, toml = manifests.configuration(pod)
        env = variables(pod, toml, place.secrets) | {"DRIPFEED_CONFIG": place.write("config.toml", text)}
        shown = place.run(["config"], env)
        expect(shown.returncode == 0, f"{manifests.name}: {pod.owner}: {shown.stderr}")
        dispatch = tomllib.loads(shown.stdout)["dispatch"]
        expect(pod is not manifests.server[1] or dispatch["every"] == "off", f"{manifests.name}: a built-in clock")


def commands_are_there(place, manifests):
    """Every command that a pod or the image's health check runs."""
    image = Dockerfile((REPOSITORY / "Dockerfile").read_text()).stages[-1]
    commands = {listed(image.last("HEALTHCHECK").partition("CMD ")[2])[1], *listed(image.last("CMD"))}
    commands |= {pod.spec["containers"][0]["args"][0] for pod in (manifests.server[1], manifests.cronjob[1])}
    for command in sorted(commands):
        asked = place.run([command, "--help"], {})
        expect(asked.returncode == 0, f"`dripfeed {command}` is run by the image or a pod, and is no command")


def the_tick_works(place, manifests):
    """A healthy server to the image's health check, and a tick with nothing but what the CronJob has."""
    with served(place, manifests) as (port, env):
        image = Dockerfile((REPOSITORY / "Dockerfile").read_text()).stages[-1]
        health = place.run(listed(image.last("HEALTHCHECK").partition("CMD ")[2])[1:], env)
        expect(health.returncode == 0, f"the image's health check fails beside a healthy server: {health.stderr}")
        tick(place, manifests, port)


def the_tick_finds_the_operators_port(place, manifests):
    """The same where operators have a port of their own, which the tick goes to, and the other one has no `/ops`."""
    ops = free_port()
    with served(place, manifests, ops=ops) as (port, _):
        tick(place, manifests, ops)
        operator = place.secrets("dripfeed-operator", "token")
        expect(status(f"http://127.0.0.1:{ops}/ops/v1/overview", operator) == 200, "operators are not let in by their port")
        expect(status(f"http://127.0.0.1:{port}/ops/v1/overview", operator) == 404, "operators are let in by the clients' port")


def the_bucket_is_made(place, manifests):
    """A MinIO that is new has no bucket: a server's first start makes it."""
    with Bucket() as bucket:
        endpoint = manifests.configuration(manifests.server[1])[1]["objects"]["endpoint"]
        with served(place, manifests, {endpoint: bucket.endpoint}):
            until(lambda: bucket.made == ["/dripfeed"], "the server makes its bucket")


@contextlib.contextmanager
def served(place, manifests, instead=None, ops=None):
    """The server as its pod has it, on a loopback port (and `ops` another, where operators have one), once its probes are
    answered; its port, and its variables."""
    port = free_port()
    _, server = manifests.server
    text, toml = manifests.configuration(server)
    changes = {toml["server"]["listen"]: f"127.0.0.1:{port}", f'"{toml["storage"]["data_dir"]}"': json.dumps(place.data)}
    for old, new in (changes | (instead or {})).items():
        text = text.replace(old, new)
    env = variables(server, toml, place.secrets) | {"DRIPFEED_CONFIG": place.write("dripfeed.toml", text)}
    container = server.spec["containers"][0]
    arguments = [f"127.0.0.1:{ops}" if it.startswith("0.0.0.0:") else it for it in container["args"]]
    with tempfile.TemporaryFile("w+") as log:
        process = place.start(arguments, env, stdout=log, stderr=subprocess.STDOUT)
        try:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                url = f"http://127.0.0.1:{port}{container[probe]['httpGet']['path']}"
                until(lambda: status(url) == 200, f"the {probe} is answered with 200", process)
            yield port, env
            process.send_signal(signal.SIGTERM)
            grace = server.spec["terminationGracePeriodSeconds"]
            expect(process.wait(timeout=grace) == 0, "a server that is told to end ends well")
        except subprocess.TimeoutExpired as error:
            raise Fault("a server that is told to end outlives its grace period") from error
        except Fault as fault:
            log.seek(0)
            raise Fault(f"{fault}\n{log.read()[-2000:]}") from fault
        finally:
            process.kill()
            process.wait()


def the_metrics_are_read(place, manifests):
    """Prometheus, with what its monitor has, gets every metric that alerts and dashboards ask for, and no other."""
    with served(place, manifests) as (port, _):
        endpoint = manifests.all("ServiceMonitor")[0]["spec"]["endpoints"][0]
        credentials = endpoint["authorization"]["credentials"]
        token, base = place.secrets(credentials["name"], credentials["key"]), f"http://127.0.0.1:{port}"
        # The second scrape tells of the first one, as a request.
        texts = [fetched(base + endpoint["path"], token) for _ in range(2)]
        faults = list(watching.shown(manifests, Scrape(texts[1])))
        expect(not faults, "; ".join(faults))
        operator = place.secrets("dripfeed-operator", "token")
        paths = json.loads(fetched(f"{base}/openapi.json", operator))["paths"]
        for rule in watching.alerts(manifests):
            told_things_are_there(place, rule, paths)


def told_things_are_there(place, rule, paths):
    """What an alert tells somebody to run or to call can be run and called."""
    told = rule["annotations"]["description"]
    for command in re.findall(r"`dripfeed ([^`]+)`", told):
        words = command.split()
        options = [word for word in words if word.startswith("--")]
        words = list(itertools.takewhile(lambda word: not word.startswith("--"), words))
        asked = place.run([*words, "--help"], {})
        expect(asked.returncode == 0, f"{rule['alert']}: `dripfeed {command}` is no command")
        for option in options:
            expect(option in asked.stdout, f"{rule['alert']}: `dripfeed {command}` has no {option}")
    for method, path in re.findall(r"`(GET|POST|PATCH) ([^`?]+)", told):
        path = path.replace("/ID", "/{id}").replace("/NAME", "/{name}")
        expect(method.lower() in paths.get(path, {}), f"{rule['alert']}: there is no {method} {path}")


def fetched(url, token):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return answer.read().decode()


class Bucket:
    """An S3 server that has no bucket until one is made."""

    def __enter__(self):
        self.made = made = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, code):
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_HEAD(self):
                self.answer(200 if self.path.split("?")[0].rstrip("/") in made else 404)

            def do_PUT(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                made.append(self.path.split("?")[0].rstrip("/"))
                self.answer(200)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def tick(place, manifests, port):
    _, cronjob = manifests.cronjob
    text, toml = manifests.configuration(cronjob)
    env = variables(cronjob, toml, place.secrets) | {"DRIPFEED_CONFIG": place.write("dispatch.toml", text)}
    url, base = f"http://{place.server}:{port}", f"http://127.0.0.1:{port}"
    arguments = [url if it.startswith("http://") else it for it in cronjob.spec["containers"][0]["args"]]
    for outcome in ("granted", "too_early"):
        ran = place.run(arguments, env)
        expect(ran.returncode == 0, f"a tick fails: {ran.stderr}")
        expect(json.loads(ran.stdout)["outcome"] == outcome, f"a tick is not {outcome}: {ran.stdout}")
    token = env["DRIPFEED_DISPATCH_TOKEN"]
    for path in ("/ops/v1/overview", "/v2/batches"):
        expect(status(base + path, token) in (401, 403), f"the CronJob's token opens {path}")


def status(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def until(holds, what, process=None):
    end = time.monotonic() + DEADLINE
    while not holds():
        expect(process is None or process.poll() is None, f"the server ended by itself, before: {what}")
        expect(time.monotonic() < end, f"never: {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(rendered, binary):
    all_manifests = read(rendered)
    base = all_manifests["k8s/base"]
    checks = [(configurations_are_valid, it) for it in all_manifests.values()]
    checks += [(commands_are_there, base), (the_tick_works, base)]
    checks += [(the_tick_finds_the_operators_port, all_manifests["k8s/examples/ingress"])]
    checks += [(the_bucket_is_made, all_manifests["k8s/overlays/minio"])]
    checks += [(the_metrics_are_read, all_manifests["k8s/examples/monitoring"])]
    found = []
    for check, manifests in checks:
        with tempfile.TemporaryDirectory(prefix="dripfeed-manifests-") as folder:
            try:
                check(Place(folder, os.path.abspath(binary)), manifests)
            except Fault as fault:
                found.append(f"{check.__name__}: {fault}")
    for fault in found:
        print(f"FAULT {fault}")
    print(f"binary: {len(checks) - len(found)} passed, {len(found)} failed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
