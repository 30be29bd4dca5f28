"""What it costs to stand in the way: Sluice beside PgBouncer (session mode), HAProxy (TCP mode) and no proxy at all.

All are measured in one run, in turns (round by round, and within a round scenario by scenario), so that whatever else the machine
does hits all alike; the middle of the rounds is shown. What counts are the ratios, not the numbers.
"""

import argparse
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from idle import Raw, hold, message
from peers import DEBIAN_BIN, ROOT, House, free_port

MODES = ("simple", "extended", "prepared")
CLIENTS = (1, 8, 32)
ROWS = 200_000
SELECT = f"SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid <= {ROWS}"
COPY_OUT = f"COPY (SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid <= {ROWS}) TO STDOUT"
COPY_IN = "COPY copied FROM STDIN"


def main():
    wanted = arguments()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results = defaultdict(lambda: defaultdict(list))
    with House(wanted.sluice) as house:
        server = house.server = house.postgres()
        prepare(house, server)
        peers = [server, house.start_haproxy(server.port), house.start_pgbouncer(server.port)]
        peers.append(house.start_sluice(server.port))
        if wanted.before:
            house.sluice = Path(wanted.before).resolve()
            peers.append(house.start_sluice(server.port, "sluice before"))
            house.sluice = Path(wanted.sluice).resolve()
        for round_number in range(wanted.rounds):
            for name, scenario in scenarios(wanted, house):
                for peer in peers:
                    print(f"\rround {round_number + 1}/{wanted.rounds}  {name}  {peer.name}".ljust(78), end="", file=sys.stderr)
                    for measure, value in scenario(peer).items():
                        results[name, measure][peer.name].append(value)
        for peer in peers[1:]:
            house.stop(peer)
        if "idle" in wanted.only:
            idle(house, results, wanted)
    print(file=sys.stderr)
    show(results, [peer.name for peer in peers])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sluice", default=ROOT / "target/release/sluice")
    parser.add_argument("--before", help="another sluice, measured beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run of pgbench")
    parser.add_argument("--sessions", type=int, default=5000, help="idle ones held")
    parser.add_argument("--only", default="select,bulk,tpcb,idle", type=lambda text: text.split(","))
    parser.add_argument("--clients", default=CLIENTS, type=lambda text: [int(count) for count in text.split(",")])
    parser.add_argument("--modes", default=MODES, type=lambda text: text.split(","))
    return parser.parse_args()


def prepare(house, server):
    pgbench = [DEBIAN_BIN / "pgbench", "-i", "-q", "-s", "10", *place(server)]
    ran = subprocess.run([str(word) for word in pgbench], capture_output=True, text=True)
    if ran.returncode != 0:
        raise RuntimeError(f"pgbench -i: {ran.stderr}")
    direct = Raw(server.port)
    direct.query("CREATE UNLOGGED TABLE copied (aid int, bid int, abalance int, filler text)")
    direct.query("VACUUM ANALYZE")
    direct.close()


def place(peer):
    return ["-h", "127.0.0.1", "-p", str(peer.port), "-U", "postgres", "postgres"]


def scenarios(wanted, house):
    if "select" in wanted.only:
        for clients in wanted.clients:
            for mode in wanted.modes:
                yield f"pgbench -S {mode}, {clients} clients", lambda peer, mode=mode, clients=clients: pgbench(
                    house, peer, ["-S", "-M", mode, "-c", clients], wanted.seconds)
    if "tpcb" in wanted.only:
        for mode in wanted.modes:
            yield f"pgbench (TPC-B) {mode}, 8 clients", lambda peer, mode=mode: pgbench(
                house, peer, ["-M", mode, "-c", 8], wanted.seconds)
    if "bulk" in wanted.only:
        yield f"SELECT of {ROWS:,} rows", lambda peer: bulk(peer, lambda raw: raw.query(SELECT))
        yield f"COPY out of {ROWS:,} rows", lambda peer: bulk(peer, lambda raw: raw.query(COPY_OUT))
        yield f"COPY in of {ROWS:,} rows", lambda peer: copy_in(house, peer)


def pgbench(house, peer, options, seconds):
    """Transactions a second, processor time of the peer for each, and the middle of their latencies."""
    log = house.folder / "latencies"
    command = [DEBIAN_BIN / "pgbench", "-n", "-T", max(1, round(seconds)), "-j", 2, *options, "-l", "--log-prefix", log, *place(peer)]
    before = peer.cpu()
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    used = peer.cpu() - before
    if ran.returncode != 0:
        raise RuntimeError(f"{peer.name}: {ran.stdout}{ran.stderr}")
    latencies = []
    for part in house.folder.glob("latencies.*"):
        latencies += [int(line.split(b" ", 3)[2]) for line in part.open("rb")]
        part.unlink()
    tps = float(re.search(r"^tps = ([0-9.]+)", ran.stdout, re.MULTILINE)[1])
    return {"tps": tps, "cpu us": used / len(latencies) * 1e6, "p50 us": statistics.median(latencies)}


def bulk(peer, run):
    """MB a second, and processor time of the peer for each MB; over about a second."""
    raw = Raw(peer.port)
    run(raw)
    total, before, started = 0, peer.cpu(), time.monotonic()
    while time.monotonic() - started < 1:
        total += run(raw)
    return rates(raw, peer, total, before, started)


def rates(raw, peer, total, before, started):
    elapsed, used = time.monotonic() - started, peer.cpu() - before
    raw.close()
    return {"MB/s": total / elapsed / 1e6, "cpu us/MB": used / total * 1e12}


def copy_in(house, peer):
    direct = Raw(house.server.port)
    rows = [b"%d\t1\t0\t%s\n" % (aid, b"x" * 84) for aid in range(ROWS)]
    # As psql and libpq's users send it: a message a row, handed to the system in parts of 64 KiB and more.
    block = b"".join(message(b"d", row) for row in rows[:1000])
    direct.query("TRUNCATE copied")
    raw = Raw(peer.port)
    total, before, started = 0, peer.cpu(), time.monotonic()
    for _ in range(3):
        raw.copy_in(COPY_IN, block, ROWS // 1000)
        total += len(block) * (ROWS // 1000)
    found = rates(raw, peer, total, before, started)
    direct.query("TRUNCATE copied")
    direct.close()
    return found


def idle(house, results, wanted):
    port = free_port()
    upstream = house.start("upstream", port, [sys.executable, ROOT / "benches/idle.py", port])
    starts = {"haproxy": house.start_haproxy, "pgbouncer": house.start_pgbouncer, "sluice": lambda port: house.start_sluice(port, "sluice idle")}
    for name, start in starts.items():
        print(f"\r{wanted.sessions} idle sessions  {name}".ljust(78), end="", file=sys.stderr)
        peer = start(upstream.port)
        hold_and_close(peer, 10)
        before = peer.resident()
        sessions = hold(peer.port, wanted.sessions)
        time.sleep(1)
        results[f"{wanted.sessions:,} idle sessions", "KiB each"][name].append((peer.resident() - before) / wanted.sessions)
        for session in sessions:
            session.close()
        house.stop(peer)
    house.stop(upstream)


def hold_and_close(peer, count):
    for session in hold(peer.port, count):
        session.close()


def show(results, names):
    print(f"{platform.machine()}, {os.cpu_count()} cores, {model()}, Linux {platform.release()}")
    for version in versions():
        print(version)
    shown = ["postgres" if name == "postgres" else name for name in names]
    columns = ["direct" if name == "postgres" else name for name in shown]
    print("\n| scenario | measure | " + " | ".join(columns) + " | sluice / pgbouncer | sluice / haproxy |")
    print("|---|---|" + "---:|" * (len(columns) + 2))
    for (scenario, measure), found in results.items():
        middle = {name: statistics.median(values) for name, values in found.items()}
        # What the server costs is not what a proxy costs.
        direct_says_nothing = measure.startswith("cpu")
        cells = ["" if name not in middle or (name == "postgres" and direct_says_nothing) else number(middle[name]) for name in shown]
        row = [scenario, measure, *cells, ratio(found, "pgbouncer"), ratio(found, "haproxy")]
        print("| " + " | ".join(row) + " |")
        if measure == "p50 us" and ", 1 clients" in scenario:
            added = {name: middle[name] - middle["postgres"] for name in middle if name != "postgres"}
            cells = ["" if name == "postgres" else number(added[name]) for name in shown]
            ratios = [f"{added['sluice'] / added[peer]:.2f}" for peer in ("pgbouncer", "haproxy")]
            print("| " + " | ".join([scenario, "added p50 us", *cells, *ratios]) + " |")


def ratio(found, peer):
    """The middle of the rounds' own ratios: what slowed a round down, slowed both."""
    if not (found.get("sluice") and found.get(peer)):
        return ""
    return f"{statistics.median(ours / theirs for ours, theirs in zip(found['sluice'], found[peer]) if theirs):.2f}"


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def model():
    names = re.findall(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    return names[0] if names else "unknown processor"


def versions():
    for command in (["haproxy", "-v"], ["pgbouncer", "--version"], [str(DEBIAN_BIN / "postgres"), "--version"]):
        path = {"PATH": os.environ["PATH"] + ":/usr/sbin"}
        yield subprocess.run(command, capture_output=True, text=True, env=path).stdout.splitlines()[0]


if __name__ == "__main__":
    main()
