"""What asyncpg does over the wire (binary formats, prepared statements, cursors, COPY), printed.

With a third argument it meets the gate instead.
"""

import asyncio
import datetime
import io
import sys

import asyncpg

PORT, DATABASE = int(sys.argv[1]), sys.argv[2]


def connect(**options):
    return asyncpg.connect(host="127.0.0.1", port=PORT, user="trusty", database=DATABASE, ssl=False, **options)


async def attempt(awaitable):
    try:
        return await awaitable
    except asyncpg.PostgresError as error:
        print(type(error).__name__, sorted((key, value) for key, value in error.as_dict().items() if value is not None))


async def same():
    connection = await connect()
    connection.add_log_listener(lambda _, message: print("notice", message.message))
    print(await connection.fetch("SELECT $1::int, $2::text, $3::date, $4::numeric, NULL", 1, "zwei", datetime.date(2026, 1, 2), 3))
    print(await connection.execute("SELECT 1; SELECT 2"))
    await attempt(connection.execute("INSERT INTO logs VALUES (1, 'twice')"))
    await attempt(connection.fetch("SELECT 1/$1::int", 0))
    await attempt(connection.fetch("SELEC 1"))
    await connection.execute("DROP TABLE IF EXISTS never_there")
    statement = await connection.prepare("SELECT id, status FROM carts WHERE id = $1")
    print(statement.get_parameters()[0].name, [attribute.name for attribute in statement.get_attributes()])
    print([tuple(await statement.fetchrow(n)) for n in range(1, 6)])
    await connection.executemany("UPDATE carts SET note = $2 WHERE id = $1", [(n, f"n{n}") for n in range(1, 41)])
    print(await connection.fetchval("SELECT count(*) FROM carts WHERE note IS NOT NULL"))
    async with connection.transaction():
        print(sum([row["id"] async for row in connection.cursor("SELECT id FROM carts ORDER BY id", prefetch=300)]))
        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO logs VALUES (2001, 'x')")
                await connection.execute("INSERT INTO logs VALUES (2001, 'x')")
        except asyncpg.UniqueViolationError as error:
            print("inner", error.constraint_name)
    print(await connection.copy_records_to_table("logs", records=[(5000 + n, "copied", None) for n in range(3000)]))
    out = io.BytesIO()
    print(await connection.copy_from_query("SELECT * FROM logs WHERE id < $1 ORDER BY id", 50, output=out, format="csv"))
    print(out.getvalue().decode()[:60])
    heard = asyncio.Queue()
    await connection.add_listener("news", lambda *news: heard.put_nowait(news[2:]))
    await connection.execute("NOTIFY news, 'hello'")
    print(await asyncio.wait_for(heard.get(), 30))
    try:
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.3)
    except asyncio.TimeoutError:
        print("cancelled", await connection.fetchval("SELECT 'still here'"))
    await connection.reset()
    await connection.close()
    pool = await asyncpg.create_pool(host="127.0.0.1", port=PORT, user="trusty", database=DATABASE, ssl=False, min_size=2, max_size=5)
    print(sorted(await asyncio.gather(*[pool.fetchval("SELECT $1::int", n) for n in range(40)])))
    await pool.close()


async def gate():
    connection = await connect()
    try:
        await connection.execute("DELETE FROM logs")
        print("not refused")
    except asyncpg.PostgresError as error:
        print("refused", error.sqlstate)
        token = error.hint.split("SLUICE CONFIRM '")[1].split("'")[0]
    print("confirmed", await connection.execute(f"SLUICE CONFIRM '{token}'"))
    try:
        await connection.fetch("UPDATE carts SET note = $1 WHERE id <= $2", "x", 3000)
        print("not refused")
    except asyncpg.PostgresError as error:
        print("refused", error.sqlstate, "with parameters")
        token = error.hint.split("SLUICE CONFIRM '")[1].split("'")[0]
    print("confirmed", await connection.fetch(f"SLUICE CONFIRM '{token}'"))
    assert await connection.fetchval("SELECT count(*) FROM carts WHERE note = 'x'") == 3000
    print((await connection.fetch("SLUICE STATUS"))[0])
    await connection.close()


asyncio.run(gate() if len(sys.argv) > 3 else same())
print("finished")
