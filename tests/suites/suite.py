"""What the suites share: a broker to run against, a cache for what they install, and the report.

Every suite is one command, `tests/suites/NAME`, with the same options:

    --against varve        start a varve of this tree (the default; VARVE_BIN names another binary)
    --against kafka        start an Apache Kafka, to see what the suite itself gets wrong
    --against HOST:PORT    use what runs there
    --only TEXT            only the tests whose name contains TEXT
    --keep                 leave the broker's folder behind and say where it is

It prints one line a test, compares with `known/NAME.txt` (name, a colon, the reason) and ends with
0 when nothing failed that is not written there, with 1 otherwise, with 77 when what it needs cannot
be had on this machine.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = pathlib.Path(
    os.environ.get("VARVE_TEST_CACHE") or pathlib.Path.home() / ".cache" / "varve-tests"
)


class Missing(Exception):
    """Something that the suite needs is not on this machine."""


def say(text):
    print(text, flush=True)


def run(command, **options):
    """Runs a command, with its output shown only when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if done.returncode != 0:
        raise Missing(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def need(program, how):
    """The path of a program, or the word that it is missing."""
    path = shutil.which(program)
    if path is None:
        raise Missing(f"{program} is not installed ({how})")
    return path


def venv(name, requirements):
    """A Python environment with these packages; answers its python."""
    place = CACHE / f"venv-{name}"
    python = place / "bin" / "python"
    stamp = place / "installed.txt"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"installing {', '.join(requirements)} into {place}")
        shutil.rmtree(place, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", place])
        run([python, "-m", "pip", "install", "-q", *requirements])
        stamp.write_text(wanted)
    return python


def varve_binary():
    """VARVE_BIN, or the binary of this tree, built when it is not there."""
    named = os.environ.get("VARVE_BIN")
    if named:
        return pathlib.Path(named)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    found = [path for kind in ("release", "debug") if (path := target / kind / "varve").exists()]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    say("building varve")
    subprocess.run(["cargo", "build", "-q", "-p", "varve-broker"], cwd=ROOT, check=True)
    return target / "debug" / "varve"


class Broker:
    """A broker to test against: `host`, `port`, `address`."""

    def __init__(self, address, stop=lambda: None):
        self.address = address
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.stop = stop


def start_varve(folder, settings, port):
    """A varve broker in `folder`, which ends when this process does."""
    config = folder / "varve.toml"
    lines = {
        "data_dir": json.dumps(str(folder / "data")),
        "listeners.kafka.bind": f'"127.0.0.1:{port}"',
        "http.bind": '"127.0.0.1:0"',
        "groups.initial_rebalance_delay_ms": "0",
        **settings,
    }
    config.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    log = open(folder / "varve.log", "ab")
    process = subprocess.Popen(
        [varve_binary(), "broker", "--supervised", "-c", config],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    try:
        process.stdin.write(b"begin\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise SystemExit(f"varve did not start:\n{(folder / 'varve.log').read_text()[-3000:]}")

    def stop():
        died = process.poll()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            say("varve did not end within 30 s of SIGTERM")
        if died is not None:
            say(f"VARVE ENDED BY ITSELF with {died}; the end of its log:")
            say((folder / "varve.log").read_text()[-3000:])

    return Broker(json.loads(line)["kafka"], stop)


def start_kafka(folder, settings, port):
    """An Apache Kafka in `folder`, the oracle."""
    script = ROOT / "tests" / "peers" / "kafka"
    settings = dict(settings)
    environment = dict(os.environ, KAFKA_NODE_ID=settings.pop("node.id", "1"))
    pairs = [f"{key}={value}" for key, value in settings.items()]
    started = subprocess.run([script, "start", folder, str(port), *pairs], env=environment,
                             stdout=sys.stderr)
    if started.returncode == 77:
        raise Missing("Apache Kafka needs Java, and Maven the first time")
    started.check_returncode()
    return Broker(f"127.0.0.1:{port}", lambda: subprocess.run([script, "stop", folder], check=True))


def free_port(wanted=0):
    """The port that is wanted, or another one where that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return probe.getsockname()[1]


@contextlib.contextmanager
def broker(arguments, varve=None, kafka=None, port=0):
    """The broker that the arguments ask for, with a suite's settings for either kind."""
    if arguments.against not in ("varve", "kafka"):
        yield Broker(arguments.against)
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="varve-suite-"))
    start, settings = {
        "varve": (start_varve, varve),
        "kafka": (start_kafka, kafka),
    }[arguments.against]
    started = start(folder, settings or {}, free_port(port))
    try:
        yield started
    finally:
        started.stop()
        if arguments.keep:
            say(f"the broker's folder is {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def known(name):
    """The differences that are known, with their reasons."""
    path = HERE / "known" / f"{name}.txt"
    reasons = {}
    if path.exists():
        for line in path.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                test, _, reason = line.partition(": ")
                reasons[test.strip()] = reason.strip()
    return reasons


def report(name, results, seconds):
    """Prints `results` (name → (outcome, detail)), and answers the exit code."""
    reasons = known(name)
    new, mended = [], []
    for test in sorted(results):
        outcome, detail = results[test]
        line = f"{outcome:4} {test}"
        if outcome == "fail" and test in reasons:
            line += f"   known: {reasons[test]}"
        elif outcome == "fail":
            new.append(test)
            line += f"   {detail}"
        elif outcome == "skip":
            line += f"   {reasons.get(test, detail)}"
        elif test in reasons:
            mended.append(test)
        say(line)
    count = {kind: sum(1 for found, _ in results.values() if found == kind)
             for kind in ("pass", "fail", "skip")}
    say(f"\n{name}: {count['pass']} passed, {count['fail']} failed "
        f"({count['fail'] - len(new)} of them known), {count['skip']} skipped, {seconds:.0f} s")
    for test in mended:
        say(f"passes now, take it off known/{name}.txt: {test}")
    for test in new:
        say(f"NEW FAILURE: {test}")
    if not results:
        say("no test ran")
    return 1 if new or not results else 0


def junit(path):
    """The results in a JUnit file."""
    import xml.etree.ElementTree as tree

    results = {}
    for case in tree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}"
        outcome, detail = "pass", ""
        for kind, word in (("failure", "fail"), ("error", "fail"), ("skipped", "skip")):
            found = case.find(kind)
            if found is not None:
                outcome, detail = word, (found.get("message") or "").splitlines()[:1]
                detail = detail[0][:200] if detail else ""
        # A test that passes and whose teardown fails is listed twice: the worse counts.
        if results.get(name, ("pass",))[0] != "fail":
            results[name] = (outcome, detail)
    return results


def main(name, body):
    """Runs `body(arguments)`, which answers the results."""
    parser = argparse.ArgumentParser(prog=name, description=f"{name} against a broker")
    parser.add_argument("--against", default="varve", metavar="varve|kafka|HOST:PORT")
    parser.add_argument("--only", metavar="TEXT")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    begun = time.monotonic()
    try:
        results = body(arguments)
    except Missing as missing:
        say(f"SKIPPED {name}: {missing}")
        sys.exit(77)
    sys.exit(report(name, results, time.monotonic() - begun))
