"""What it costs to stand before PostgreSQL: Sluice beside PgBouncer (session mode), HAProxy (TCP mode) and no proxy at all."""

import re
import statistics
import subprocess

from idle import Raw, hold, message
from peers import DEBIAN_BIN, House
from rounds import ROWS, Results, all_sluices, bulk, idle, in_turns, options, show

MODES = ("simple", "extended", "prepared")
SELECT = f"SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid <= {ROWS}"
COPY_OUT = f"COPY (SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid <= {ROWS}) TO STDOUT"
COPY_IN = "COPY copied FROM STDIN"
VERSIONS = (["haproxy", "-v"], ["pgbouncer", "--version"], [str(DEBIAN_BIN / "postgres"), "--version"])


def main():
    parser = options(__doc__, "select,bulk,tpcb,idle")
    parser.add_argument("--modes", default=MODES, type=lambda text: text.split(","))
    wanted = parser.parse_args()
    results = Results("postgres", ("pgbouncer", "haproxy"))
    with House(wanted.sluice) as house:
        server = house.server = house.postgres()
        prepare(server)
        peers = [server, house.start_haproxy(server.port), house.start_pgbouncer(server.port)]
        peers += all_sluices(house, wanted, lambda name: house.start_sluice("postgres", server.port, name))
        in_turns(results, wanted.rounds, list(scenarios(wanted, house)), peers)
        for peer in peers[1:]:
            house.stop(peer)
        if "idle" in wanted.only:
            sluice = lambda port: house.start_sluice("postgres", port, "sluice idle")
            starts = {"haproxy": house.start_haproxy, "pgbouncer": house.start_pgbouncer, "sluice": sluice}
            idle(house, results, wanted.sessions, ["idle.py"], starts, hold)
    show(results, [peer.name for peer in peers], VERSIONS)


def prepare(server):
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
        yield f"SELECT of {ROWS:,} rows", lambda peer: bulk(peer, Raw, lambda raw: raw.query(SELECT), wanted.seconds)
        yield f"COPY out of {ROWS:,} rows", lambda peer: bulk(peer, Raw, lambda raw: raw.query(COPY_OUT), wanted.seconds)
        yield f"COPY in of {ROWS:,} rows", lambda peer: copy_in(house, peer, wanted.seconds)


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


def copy_in(house, peer, seconds):
    direct = Raw(house.server.port)
    rows = [b"%d\t1\t0\t%s\n" % (aid, b"x" * 84) for aid in range(ROWS)]
    # As psql and libpq's users send it: a message a row, handed to the system in parts of 64 KiB and more.
    block = b"".join(message(b"d", row) for row in rows[:1000])
    direct.query("TRUNCATE copied")
    found = bulk(peer, Raw, lambda raw: raw.copy_in(COPY_IN, block, ROWS // 1000), seconds)
    direct.query("TRUNCATE copied")
    direct.close()
    return found


if __name__ == "__main__":
    main()
