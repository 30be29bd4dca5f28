// What node-postgres does over the wire, printed; with "gate" as its third argument it meets the gate instead.
const { Client, Pool } = require("pg");

const [port, database, part] = process.argv.slice(2);
const where = { host: "127.0.0.1", port: Number(port), user: "trusty", database };

async function attempt(promise) {
  try {
    return await promise;
  } catch (error) {
    const { code, severity, message, detail, hint, table, constraint, position, file, line, routine } = error;
    console.log({ code, severity, message, detail, hint, table, constraint, position, file, line, routine });
  }
}

async function same() {
  const client = new Client(where);
  client.on("notice", (notice) => console.log("notice", notice.message));
  await client.connect();
  console.log((await client.query("SELECT 1 AS a, NULL AS b, now() > '2000-01-01' AS c")).rows);
  console.log((await client.query("SELECT $1::int AS a, $2::text AS b", [1, "zwei"])).rows);
  console.log((await client.query("SELECT 1 AS a; SELECT 2 AS b")).map((result) => result.rows));
  console.log((await client.query({ text: "SELECT * FROM carts WHERE id = $1", values: [3], rowMode: "array" })).rows);
  for (const id of [1, 2, 3]) {
    console.log((await client.query({ name: "by-id", text: "SELECT status FROM carts WHERE id = $1", values: [id] })).rows);
  }
  await attempt(client.query("INSERT INTO logs VALUES (1, 'twice')"));
  await attempt(client.query("SELECT 1/$1::int", [0]));
  await attempt(client.query("SELEC 1"));
  await client.query("DROP TABLE IF EXISTS never_there");
  await client.query("BEGIN");
  console.log((await client.query("UPDATE carts SET note = $1 WHERE id = 5", ["x"])).rowCount);
  await attempt(client.query("SELECT 1/0"));
  await attempt(client.query("SELECT 1"));
  console.log((await client.query("ROLLBACK")).command);
  console.log((await client.query("SELECT id FROM carts ORDER BY id")).rows.length);
  console.log((await Promise.all([...Array(30).keys()].map((n) => client.query("SELECT $1::int AS n", [n])))).map((r) => r.rows[0].n));
  const heard = new Promise((resolve) => client.on("notification", (news) => resolve([news.channel, news.payload])));
  await client.query("LISTEN news");
  await client.query("NOTIFY news, 'hello'");
  console.log(await heard);
  await client.end();
  const pool = new Pool({ ...where, max: 4 });
  console.log(await Promise.all([...Array(20).keys()].map(async (n) => (await pool.query("SELECT $1::int AS n", [n])).rows[0].n)));
  await pool.end();
}

async function refused(client, note, ...query) {
  try {
    await client.query(...query);
    console.log("not refused");
  } catch (error) {
    console.log(`refused ${error.code}${note}`);
    return error.hint.split("SLUICE CONFIRM '")[1].split("'")[0];
  }
}

async function gate() {
  const client = new Client(where);
  await client.connect();
  let token = await refused(client, "", "DELETE FROM logs");
  console.log("confirmed", (await client.query(`SLUICE CONFIRM '${token}'`)).rowCount);
  token = await refused(client, " with parameters", "UPDATE carts SET note = $1 WHERE id <= $2", ["x", 3000]);
  console.log("confirmed", (await client.query(`SLUICE CONFIRM '${token}'`)).rowCount);
  console.log((await client.query("SLUICE STATUS")).rows[0]);
  await client.end();
}

(part === "gate" ? gate() : same()).then(
  () => console.log("finished"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
