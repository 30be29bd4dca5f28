"""What psycopg 3 does over the wire, printed: run direct and through, the output must be the same.

With a third argument it meets the gate instead.
"""

import sys

import psycopg
from psycopg.rows import dict_row

PORT, DATABASE = sys.argv[1], sys.argv[2]
DSN = f"host=127.0.0.1 port={PORT} user=trusty dbname={DATABASE}"


def attempt(what, *arguments):
    try:
        return what(*arguments)
    except psycopg.Error as error:
        diagnosis = error.diag
        fields = ["sqlstate", "severity", "message_primary", "message_detail", "message_hint", "table_name", "constraint_name",
                  "statement_position", "source_file", "source_line", "source_function"]
        print(type(error).__name__, [getattr(diagnosis, field) for field in fields])


def same():
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: print("notice", notice.severity, notice.message_primary))
        print(connection.execute("SELECT 1, %s, %s::text, NULL", (2, "drei")).fetchall())
        print(connection.execute("SELECT %b::int, %b::bytea", (7, b"\x00\xff"), binary=True).fetchall())
        print(connection.cursor(row_factory=dict_row).execute("SELECT * FROM carts WHERE id = %s", (3,)).fetchone())
        attempt(connection.execute, "INSERT INTO logs VALUES (1, 'twice')")
        attempt(connection.execute, "SELECT 1/0")
        attempt(connection.execute, "SELEC 1")
        connection.execute("DROP TABLE IF EXISTS never_there")
        for n in range(12):  # past psycopg's threshold, the statement is prepared on the server
            print(connection.execute("SELECT status FROM carts WHERE id = %s", (n,)).fetchall())
        with connection.cursor() as cursor:
            cursor.executemany("UPDATE carts SET note = %s WHERE id = %s", [(f"n{n}", n) for n in range(1, 21)])
            print(cursor.rowcount)
            cursor.executemany("SELECT %s::int * 2", [(n,) for n in range(5)], returning=True)
            results = [cursor.fetchone()]
            while cursor.nextset():
                results.append(cursor.fetchone())
            print(results)
    with psycopg.connect(DSN) as connection:
        with connection.cursor("server_side") as cursor:
            cursor.execute("SELECT id FROM carts ORDER BY id")
            cursor.itersize = 400
            print(sum(row[0] for row in cursor))
        with connection.cursor("scrolled", scrollable=True) as cursor:
            cursor.execute("SELECT id FROM carts ORDER BY id")
            cursor.scroll(4000)
            print(cursor.fetchmany(3))
            cursor.scroll(-10)
            print(cursor.fetchone())
        with connection.cursor().copy("COPY logs TO STDOUT") as copy:
            print(sum(len(row) for row in copy.rows()))
        with connection.cursor() as cursor:
            with cursor.copy("COPY logs (id, kind) FROM STDIN") as copy:
                for n in range(5000):
                    copy.write_row((10000 + n, "copied"))
            print(cursor.rowcount)
            with cursor.copy("COPY logs (id, kind) FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int4", "text"])
                for n in range(100):
                    copy.write_row((20000 + n, "binary"))
            print(connection.execute("SELECT count(*), min(kind) FROM logs").fetchone())
        connection.rollback()
        try:
            with connection.cursor().copy("COPY logs (id, kind) FROM STDIN") as copy:
                copy.write_row((30000, "x"))
                raise KeyError("thought better of it")
        except KeyError as error:
            print("KeyError", error, connection.info.transaction_status.name)
        connection.rollback()
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(50)]
            pipeline.sync()
            print([cursor.fetchone()[0] for cursor in cursors])
        try:
            with connection.pipeline():
                connection.execute("INSERT INTO logs VALUES (40000, 'in a pipeline')")
                connection.execute("SELECT 1/0")
                connection.execute("INSERT INTO logs VALUES (40001, 'never')")
        except psycopg.Error as error:
            print(type(error).__name__, error.diag.sqlstate)
        connection.rollback()
        print(connection.execute("SELECT count(*) FROM logs").fetchone())
        with connection.transaction():
            connection.execute("UPDATE carts SET note = 'outer' WHERE id = 1")
            try:
                with connection.transaction():
                    connection.execute("UPDATE carts SET note = 'inner' WHERE id = 1")
                    raise psycopg.Rollback()
            except psycopg.Error as error:
                print(error)
        print(connection.execute("SELECT note FROM carts WHERE id = 1").fetchone())
        connection.commit()
    with psycopg.connect(DSN, autocommit=True) as ear, psycopg.connect(DSN, autocommit=True) as mouth:
        ear.execute("LISTEN news")
        mouth.execute("NOTIFY news, 'hello'")
        print([notification.payload for notification in ear.notifies(timeout=30, stop_after=1)])


def gate():
    with psycopg.connect(DSN) as connection:
        try:
            connection.execute("DELETE FROM logs")
            print("not refused")
        except psycopg.Error as error:
            print("refused", error.sqlstate)
            token = error.diag.message_hint.split("SLUICE CONFIRM '")[1].split("'")[0]
            assert "missing-where" in error.diag.message_detail
        connection.rollback()
        print("confirmed", connection.execute(f"SLUICE CONFIRM '{token}'").statusmessage)
        connection.commit()
    with psycopg.connect(DSN, autocommit=True) as connection:
        try:
            connection.execute("UPDATE carts SET note = %s WHERE id <= %s", ("x", 3000))
            print("not refused")
        except psycopg.Error as error:
            print("refused", error.sqlstate, "with parameters")
            token = error.diag.message_hint.split("SLUICE CONFIRM '")[1].split("'")[0]
        print("confirmed", connection.execute(f"SLUICE CONFIRM '{token}'").statusmessage)
        assert connection.execute("SELECT count(*) FROM carts WHERE note = 'x'").fetchone() == (3000,)
        print(connection.execute("SLUICE STATUS").fetchall()[0])


gate() if len(sys.argv) > 3 else same()
print("finished")
