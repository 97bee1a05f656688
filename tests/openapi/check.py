"""Starts a server with a batch in it, checks the document's examples, and lets schemathesis loose on both roles."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import jsonschema_rs

OPERATOR = "operator-token-0123456789"
KEYS = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
DEADLINE_SECONDS = 60
# Cases of each call: enough to come to every branch of a schema, few enough for every change to wait for them.
EXAMPLES = 25
# What no schema can say: which cursor, step or CSV is a good one, so that good data of the right type is refused; and wrong
# keys are slowed down (429) after a few, which is what they should be. Both have tests of their own.
NOT_CHECKED = ["positive_data_acceptance", "ignored_auth"]
# What a role may not call is tried by the tests of access. Here each calls what is its own.
ROLES = {
    "client": ["--exclude-path-regex", "^/ops/|^/session|/events$|/rotate-key$"],
    "operator": ["--include-path-regex", "^/ops/"],
}

CONFIG = """
[server]
listen = "127.0.0.1:0"
[storage]
data_dir = "{home}/data"
[encryption]
key_file = "{home}/keys"
[access]
operator_token = "{operator}"
[limits]
requests_per_minute = 1_000_000
[dispatch]
every = "1s"
min_interval = "0s"
[workflows.invite]
pause_after_failures = 1_000_000
[dependencies.addresses]
base_url = "http://127.0.0.1:{downstream}"
rate_per_second = 1000
[dependencies.invites]
base_url = "http://127.0.0.1:{downstream}"
rate_per_second = 1000
"""

PEOPLE = "email,first_name,last_name,postcode,house_number\n" + "".join(
    f"p{row}@{'rejected' if row % 5 == 0 else 'mail'}.example,Ann,Smith,AB1 2CD,{row}\n" for row in range(1, 51)
)


def until(look, what):
    """Looks again and again until there is something to see."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"it never came to this: {what}")


class Server:
    """A server of the binary with a simulator as its downstream, a client and a batch that is done."""

    def __init__(self, binary, home):
        self.binary, self.home = binary, pathlib.Path(home)
        self.simulator, downstream = self.start("simulator", "--listen", "127.0.0.1:0")
        (self.home / "keys").write_text(KEYS)
        os.chmod(self.home / "keys", 0o600)
        config = CONFIG.format(home=home, operator=OPERATOR, downstream=downstream)
        (self.home / "dripfeed.toml").write_text(config)
        added = subprocess.run(self.command("client", "add", "acme", "--json"), check=True, capture_output=True)
        self.key = json.loads(added.stdout)["key"]
        self.process, port = self.start("serve")
        self.url = f"http://127.0.0.1:{port}"

    def command(self, *arguments):
        return [self.binary, "--config", str(self.home / "dripfeed.toml"), *arguments]

    def start(self, *arguments):
        """Starts a command, and waits until its log says on which port it listens."""
        log = self.home / f"{arguments[0]}.log"
        process = subprocess.Popen(self.command(*arguments), stdout=log.open("w"), stderr=subprocess.STDOUT)

        def port():
            if process.poll() is not None:
                sys.exit(f"{arguments[0]} ended: {log.read_text()}")
            for word in log.read_text().replace('"', " ").replace("/", " ").split():
                if word.startswith("127.0.0.1:") and word[10:].isdigit() and word[10:] != "0":
                    return word[10:]
            return None

        return process, until(port, f"{arguments[0]} listens")

    def ask(self, path, key, body=None, content_type="text/csv"):
        request = urllib.request.Request(self.url + path, data=body, headers={"Authorization": f"Bearer {key}"})
        request.add_header("Content-Type", content_type)
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            return json.load(answer)

    def stop(self):
        for process in (self.process, self.simulator):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=DEADLINE_SECONDS)


def check_examples(document):
    """Every example is what its schema says."""
    checked = 0

    def walk(node):
        nonlocal checked
        if not isinstance(node, dict):
            return
        if "schema" in node:
            schema = {**node["schema"], "components": document["components"]}
            values = [example["value"] for example in node.get("examples", {}).values() if isinstance(example, dict)]
            for value in values + ([node["example"]] if "example" in node else []):
                error = next(jsonschema_rs.Draft202012Validator(schema).iter_errors(value), None)
                if error:
                    sys.exit(f"an example is not what its schema says: {error.message}\n{json.dumps(value)[:300]}")
                checked += 1
        for child in node.values():
            walk(child)

    walk(document["paths"])
    walk(document["components"]["responses"])
    return checked


def main():
    binary, schemathesis = sys.argv[1:]
    with tempfile.TemporaryDirectory() as home:
        server = Server(binary, home)
        batch = server.ask("/v2/client/users/batch/invite", server.key, PEOPLE.encode())["id"]
        done = lambda: server.ask(f"/v2/batches/{batch}", server.key)["status"] == "completed"
        until(done, "the batch is completed")
        document = server.ask("/openapi.json", server.key)
        print(f"{len(document['paths'])} paths, {check_examples(document)} examples hold")
        failed = False
        for role, calls in ROLES.items():
            key = server.key if role == "client" else OPERATOR
            print(f"-- as {role}", flush=True)
            run = subprocess.run(
                [
                    schemathesis, "--no-color", "run", f"{server.url}/openapi.json",
                    "--header", f"Authorization:Bearer {key}", "--phases", "examples,coverage,fuzzing",
                    "--max-examples", str(EXAMPLES), "--generation-deterministic", "--continue-on-failure",
                    "--request-timeout", "30", "--exclude-checks", ",".join(NOT_CHECKED), *calls,
                ],
                cwd=home,
            )
            failed |= run.returncode != 0
        broken = [line for line in (server.home / "serve.log").read_text().splitlines() if "ERROR" in line]
        server.stop()
        if broken:
            sys.exit("the server logged errors:\n" + "\n".join(broken[:10]))
        if failed:
            sys.exit("the server and its description differ")


if __name__ == "__main__":
    main()
