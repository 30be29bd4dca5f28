// What mysql2 does over the wire, printed: run direct and through, the output must be the same. Arguments: port, database, user, password,
// and what to do: "same" or "gate".
const mysql = require("mysql2/promise");

const [port, database, user, password, part] = process.argv.slice(2);
const where = { host: "127.0.0.1", port: Number(port), user, password, database };

async function attempt(connection, ...query) {
  try {
    console.log((await connection.query(...query))[0]);
  } catch (error) {
    console.log(error.errno, error.sqlState, error.sqlMessage);
  }
}

async function same() {
  const connection = await mysql.createConnection({ ...where, multipleStatements: true });
  console.log((await connection.query("SELECT 1 AS one, ? AS two, ? AS three, NULL AS four", [2, "drei"]))[0]);
  console.log((await connection.execute("SELECT * FROM carts WHERE id = ?", [3]))[0]);
  for (let n = 0; n < 4; n++) console.log((await connection.execute("SELECT status FROM carts WHERE id = ?", [n]))[0]);
  await attempt(connection, "SELECT 1; SELECT 2; UPDATE carts SET note = 'j' WHERE id = 3");
  await attempt(connection, "INSERT INTO logs VALUES (1, 'twice', NULL)");
  await attempt(connection, "SELEC 1");
  await attempt(connection, "CALL several()");
  await attempt(connection, "INSERT INTO counted (v) VALUES (?), (?)", ["a", "b"]);
  await connection.beginTransaction();
  console.log((await connection.execute("DELETE FROM logs WHERE id < ?", [20]))[0]);
  await connection.rollback();
  console.log((await connection.query("SELECT count(*) AS n FROM logs"))[0]);
  console.log((await connection.execute("SELECT CAST(? AS DATE) AS d, ? AS j", ["2026-01-02", JSON.stringify({ a: 1 })]))[0]);
  const together = [...Array(30).keys()].map((n) => connection.query("SELECT ? AS n", [n]));
  console.log((await Promise.all(together)).map(([rows]) => rows[0].n));
  const statement = await connection.prepare("SELECT id FROM logs WHERE id = ?");
  console.log((await statement.execute([7]))[0]);
  await statement.close();
  await connection.ping();
  await connection.changeUser({ user, password, database });
  console.log((await connection.query("SELECT database() = ? AS same", [database]))[0]);
  let rows = 0;
  for await (const _ of connection.connection.query("SELECT id FROM carts").stream()) rows += 1;
  console.log(rows);
  await connection.end();
  const pool = mysql.createPool({ ...where, connectionLimit: 4 });
  console.log(await Promise.all([...Array(20).keys()].map(async (n) => (await pool.query("SELECT ? AS n", [n]))[0][0].n)));
  await pool.end();
}

async function refused(connection, note, ...query) {
  try {
    await connection.execute(...query);
    console.log("not refused");
  } catch (error) {
    console.log(`refused ${error.errno} ${note}`);
    return error.sqlMessage.split("SLUICE CONFIRM '")[1].split("'")[0];
  }
}

async function gate() {
  const connection = await mysql.createConnection(where);
  let token = await refused(connection, "", "DELETE FROM logs");
  console.log((await connection.query("SHOW WARNINGS"))[0].length > 1);
  console.log("confirmed", (await connection.query(`SLUICE CONFIRM '${token}'`))[0].affectedRows);
  token = await refused(connection, "with parameters", "UPDATE carts SET note = ? WHERE id <= ?", ["x", 3000]);
  console.log("confirmed", (await connection.query(`SLUICE CONFIRM '${token}'`))[0].affectedRows);
  console.log((await connection.query("SLUICE STATUS"))[0].length > 0);
  const text = JSON.stringify((await connection.query("SLUICE POLICY"))[0]);
  const binary = JSON.stringify((await connection.execute("SLUICE POLICY"))[0]);
  console.log(text === binary && text.includes("missing-where") ? "rows of ours" : `${text} is not ${binary}`);
  await connection.end();
}

(part === "gate" ? gate() : same()).then(
  () => console.log("finished"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
