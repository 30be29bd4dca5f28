"""What PyMySQL, mysql-connector-python and mysqlclient do over the wire, printed: run direct and through, the output must be the same.

Arguments: the library, port, database, user, password; with a sixth it meets the gate instead.
"""

import datetime
import decimal
import importlib
import sys

LIBRARY, PORT, DATABASE, USER, PASSWORD = sys.argv[1:6]
library = importlib.import_module(LIBRARY)


def connect(**more):
    return library.connect(host="127.0.0.1", port=int(PORT), user=USER, password=PASSWORD, database=DATABASE, **more)


def attempt(cursor, *arguments):
    try:
        cursor.execute(*arguments)
        return cursor.fetchall()
    except library.Error as error:
        print(type(error).__name__, error.args[:2])


def warnings(connection, cursor):
    cursor.execute("SHOW WARNINGS")
    print("warnings", cursor.fetchall())


def same():
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("SELECT 1, %s, %s, NULL", (2, "drei"))
    print(cursor.fetchall(), [column[0] for column in cursor.description])
    cursor.execute("SELECT %s, %s, %s", (decimal.Decimal("1.50"), datetime.date(2026, 1, 2), "it's ä \\ \" %"))
    print(cursor.fetchall())
    cursor.execute("SELECT * FROM carts WHERE id = %s", (3,))
    print(cursor.fetchone(), cursor.fetchall())
    attempt(cursor, "INSERT INTO logs VALUES (1, 'twice', NULL)")
    attempt(cursor, "SELEC 1")
    attempt(cursor, "SELECT * FROM nowhere")
    attempt(cursor, "DROP TABLE IF EXISTS never_there")
    warnings(connection, cursor)
    for n in range(5):
        cursor.execute("SELECT status FROM carts WHERE id = %s", (n,))
        print(cursor.fetchall(), cursor.rowcount)
    print(cursor.executemany("INSERT INTO logs VALUES (%s, %s, %s)", [(n, "many", None) for n in range(1000, 1300)]))
    print(cursor.rowcount)
    cursor.executemany("UPDATE carts SET note = %s WHERE id = %s", [(f"n{n}", n) for n in range(1, 21)])
    print(cursor.rowcount)
    connection.rollback()
    cursor.execute("SELECT count(*) FROM logs")
    print(cursor.fetchall())
    cursor.execute("INSERT INTO counted (v) VALUES ('a'), ('b')")
    print(cursor.lastrowid, cursor.rowcount)
    connection.commit()
    cursor.callproc("several", ())
    if hasattr(cursor, "stored_results"):
        print([result.fetchall() for result in cursor.stored_results()])
    else:
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(cursor.fetchall())
        print(results)
    cursor.close()
    cursor = connection.cursor()
    cursor.execute("SELECT id, line FROM logs ORDER BY id")
    print(len(cursor.fetchmany(10)), len(cursor.fetchall()))
    connection.autocommit(True) if callable(getattr(connection, "autocommit", None)) else setattr(connection, "autocommit", True)
    cursor.execute("UPDATE logs SET line = 'y' WHERE id = 5")
    print(cursor.rowcount)
    if hasattr(connection, "ping"):
        connection.ping()
    if LIBRARY == "mysql.connector":
        prepared = connection.cursor(prepared=True)
        for n in (1, 2, 9999):
            prepared.execute("SELECT id, kind FROM logs WHERE id = %s", (n,))
            print(prepared.fetchall())
        prepared.close()
        connection.reset_session()
        connection.cmd_change_user(USER, PASSWORD, DATABASE)
    if LIBRARY == "MySQLdb":
        connection.change_user(USER, PASSWORD, DATABASE)
        print(connection.stat().split(":")[0], connection.get_server_info())
    cursor = connection.cursor()
    cursor.execute("SELECT database(), substring_index(user(), '@', 1)")
    print(cursor.fetchall())
    connection.close()
    pool = [connect() for _ in range(3)]
    for one in pool:
        one.close()
    try:
        library.connect(host="127.0.0.1", port=int(PORT), user=USER, password="wrong", database=DATABASE)
    except library.Error as error:
        # Its words may be Sluice's: a key that a client keeps from one server to the next is not Sluice's key.
        print(type(error).__name__, error.args[0])


def refused(cursor, note, *arguments):
    try:
        cursor.execute(*arguments)
    except library.Error as error:
        message = str(error)
        # PyMySQL takes the number for a signed one.
        print("refused", error.args[0] % 65536, note)
        return message.split("SLUICE CONFIRM '")[1].split("'")[0]
    print("not refused")


def gate():
    connection = connect()
    cursor = connection.cursor()
    token = refused(cursor, "", "DELETE FROM logs")
    warnings(connection, cursor)
    cursor.execute(f"SLUICE CONFIRM '{token}'")
    print("confirmed", cursor.rowcount)
    connection.commit()
    token = refused(cursor, "with parameters", "UPDATE carts SET note = %s WHERE id <= %s", ("x", 3000))
    cursor.execute(f"SLUICE CONFIRM '{token}'")
    print("confirmed", cursor.rowcount)
    connection.commit()
    cursor.execute("SLUICE STATUS")
    print(len(cursor.fetchall()) > 0)
    cursor.execute("SLUICE POLICY")
    text = cursor.fetchall()
    # The others have no statements prepared by the server.
    prepared = connection.cursor(prepared=True) if library.__name__ == "mysql.connector" else cursor
    prepared.execute("SLUICE POLICY")
    binary = prepared.fetchall()
    print("rows of ours" if text == binary and "missing-where" in str(text) else f"{text} is not {binary}")


gate() if len(sys.argv) > 6 else same()
print("finished")
