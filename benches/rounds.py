"""What the benches of all protocols share: options, rounds in turns, idle sessions, and the table.

All ways are measured in one run, in turns (round by round, and within a round scenario by scenario), so that whatever else the
machine does hits all alike; the middle of the rounds is shown. What counts are the ratios, not the numbers.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from peers import PATH, ROOT, free_port

CLIENTS = (1, 8, 32)
ROWS = 200_000


class Results:
    """The values of each scenario's measures, a list of the rounds' for each way."""

    def __init__(self, direct, against):
        """The name of the way without a proxy, and of those that Sluice is laid beside."""
        self.direct, self.against = direct, against
        self.values = defaultdict(lambda: defaultdict(list))

    def add(self, scenario, peer, measures):
        for measure, value in measures.items():
            self.values[scenario, measure][peer].append(value)


def options(description, only):
    """The options that all have; `only` are the parts of the bench."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sluice", default=ROOT / "target/release/sluice")
    parser.add_argument("--before", help="another sluice, measured beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run of the load generator")
    parser.add_argument("--sessions", type=int, default=5000, help="idle ones held")
    parser.add_argument("--only", default=only, type=lambda text: text.split(","), help=only)
    parser.add_argument("--clients", default=CLIENTS, type=lambda text: [int(count) for count in text.split(",")])
    return parser


def all_sluices(house, wanted, start):
    """Sluice, and the other one that it is to be measured beside."""
    yield start("sluice")
    if wanted.before:
        house.sluice = Path(wanted.before).resolve()
        yield start("sluice before")
        house.sluice = Path(wanted.sluice).resolve()


def in_turns(results, rounds, scenarios, peers):
    """Each scenario is a name and what gives a peer's measures."""
    for round_number in range(rounds):
        for name, scenario in scenarios:
            for peer in peers:
                say(f"round {round_number + 1}/{rounds}  {name}  {peer.name}")
                results.add(name, peer.name, scenario(peer))


def bulk(peer, connect, run, seconds):
    """MB a second, and processor time of the peer for each MB. `run` gives the bytes moved."""
    raw = connect(peer.port)
    run(raw)
    total, before, started = 0, peer.cpu(), time.monotonic()
    while time.monotonic() - started < seconds:
        total += run(raw)
    elapsed, used = time.monotonic() - started, peer.cpu() - before
    raw.close()
    return {"MB/s": total / elapsed / 1e6, "cpu us/MB": used / total * 1e12}


def idle(house, results, count, program, starts, hold):
    """What each proxy keeps resident for a session. `program` is the upstream, told its port in front of its other words; `starts` begin a
    proxy before a port; `hold` opens sessions that have asked once."""
    port = free_port()
    upstream = house.start("upstream", port, [sys.executable, ROOT / "benches" / program[0], port, *program[1:]])
    for name, start in starts.items():
        say(f"{count} idle sessions  {name}")
        peer = start(upstream.port)
        # What only the first ones cost is not what each costs.
        close(hold(peer.port, 10))
        before = peer.resident()
        sessions = hold(peer.port, count)
        time.sleep(1)
        results.add(f"{count:,} idle sessions", name, {"KiB each": (peer.resident() - before) / count})
        close(sessions)
        house.stop(peer)
    house.stop(upstream)


def close(sessions):
    for session in sessions:
        session.close()


def say(text):
    print(f"\r{text}".ljust(78), end="", file=sys.stderr)


def show(results, names, versions):
    """The machine, the versions, and the table as benches/README.md has it."""
    print(file=sys.stderr)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {model()}, Linux {platform.release()}")
    for command in versions:
        environment = {**os.environ, "PATH": PATH}
        said = subprocess.run(command, capture_output=True, text=True, env=environment).stdout.splitlines()[0]
        print(re.sub(r"^/\S*/", "", said))
    columns = ["direct" if name == results.direct else name for name in names]
    print("\n| scenario | measure | " + " | ".join(columns + [f"sluice / {peer}" for peer in results.against]) + " |")
    print("|---|---|" + "---:|" * (len(columns) + len(results.against)))
    for (scenario, measure), found in results.values.items():
        middle = {name: statistics.median(values) for name, values in found.items()}
        if measure.startswith("cpu"):
            # What the server costs is not what a proxy costs.
            middle.pop(results.direct, None)
        row(scenario, measure, middle, names, [ratio(found, peer) for peer in results.against])
        if measure == "p50 us" and ", 1 clients" in scenario:
            # A proxy that seems faster than none shows that other work hides what it adds.
            added = {name: middle[name] - middle[results.direct] for name in middle if middle[name] > middle[results.direct]}
            row(scenario, "added p50 us", added, names, [added_ratio(added, peer) for peer in results.against])


def row(scenario, measure, middle, names, ratios):
    cells = [number(middle[name]) if name in middle else "" for name in names]
    print("| " + " | ".join([scenario, measure, *cells, *ratios]) + " |")


def ratio(found, peer):
    """The middle of the rounds' own ratios: what slowed a round down, slowed both."""
    ratios = [ours / theirs for ours, theirs in zip(found.get("sluice", []), found.get(peer, [])) if theirs]
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def added_ratio(added, peer):
    return f"{added['sluice'] / added[peer]:.2f}" if added.get(peer) and "sluice" in added else ""


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def model():
    names = re.findall(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    return names[0] if names else "unknown processor"
