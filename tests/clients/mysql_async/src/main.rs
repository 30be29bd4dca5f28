//! What mysql_async does over the wire, printed: run direct and through, the output must be the same. Arguments: an address, and what to do:
//! "same", "gate" or "who".

use mysql_async::prelude::*;
use mysql_async::{Conn, Error, IsolationLevel, Pool, Result, Row, TxOpts};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, part] = &arguments[..] else { panic!("an address and a part") };
    match part.as_str() {
        "same" => same(address).await?,
        "gate" => gate(address).await?,
        _ => {
            let mut connection = Conn::from_url(address).await?;
            let who: Option<String> = connection.query_first("SELECT substring_index(user(), '@', 1)").await?;
            println!("{}", who.unwrap_or_default());
            return connection.disconnect().await;
        }
    }
    println!("finished");
    Ok(())
}

async fn same(address: &str) -> Result<()> {
    let mut connection = Conn::from_url(address).await?;
    show(connection.query("SELECT 1 AS one, 'zwei' AS two, NULL AS three").await);
    show(connection.exec("SELECT ? AS one, ? AS two, ? AS three", (1, "it's ä \\ \" %", None::<u8>)).await);
    for id in 0..4 {
        // Kept prepared by the driver.
        show(connection.exec("SELECT * FROM carts WHERE id = ?", (id,)).await);
    }
    show(connection.query("SELEC 1").await);
    show(connection.exec("SELECT * FROM nowhere WHERE id = ?", (1,)).await);
    show(connection.query("INSERT INTO logs VALUES (1, 'twice', NULL)").await);
    show(connection.exec("INSERT INTO counted (v) VALUES (?), (?)", ("a", "b")).await);
    println!("{} {:?}", connection.affected_rows(), connection.last_insert_id());
    let mut results = connection.query_iter("CALL several()").await?;
    while !results.is_empty() {
        println!("{:?}", results.collect::<Row>().await?);
    }
    drop(results);
    let notes = (1..20).map(|id| (format!("n{id}"), id));
    connection.exec_batch("UPDATE carts SET note = ? WHERE id = ?", notes).await?;

    let mut options = TxOpts::new();
    options.with_isolation_level(IsolationLevel::ReadCommitted);
    let mut transaction = connection.start_transaction(options).await?;
    show(transaction.exec("DELETE FROM logs WHERE id < ?", (20,)).await);
    show(transaction.query("SELECT count(*) FROM logs").await);
    transaction.rollback().await?;
    show(connection.query("SELECT count(*) FROM logs").await);
    connection.ping().await?;
    println!("{}", connection.reset().await?);
    show(connection.query("SELECT database() IS NOT NULL").await);
    connection.disconnect().await?;

    let pool = Pool::new(address);
    for number in 0..5 {
        let mut borrowed = pool.get_conn().await?;
        show(borrowed.exec("SELECT ? + 1", (number,)).await);
    }
    pool.disconnect().await
}

fn show(rows: Result<Vec<Row>>) {
    match rows {
        Ok(rows) => println!("{rows:?}"),
        Err(error) => println!("fails: {error}"),
    }
}

async fn gate(address: &str) -> Result<()> {
    let mut connection = Conn::from_url(address).await?;
    let refused = connection.query_drop("DELETE FROM logs").await;
    confirm(&mut connection, "", refused).await?;
    let refused = connection.exec_drop("UPDATE carts SET note = ? WHERE id <= ?", ("x", 3000)).await;
    confirm(&mut connection, "with parameters", refused).await?;
    // A result of ours, in text and in binary.
    let cells = |rows: Vec<Row>| rows.into_iter().map(|row| format!("{:?}", row.unwrap())).collect::<Vec<_>>().join(" ");
    let text = cells(connection.query("SLUICE POLICY").await?);
    let binary = cells(connection.exec("SLUICE POLICY", ()).await?);
    match text == binary && !text.is_empty() {
        true => println!("rows of ours"),
        false => println!("{text} is not {binary}"),
    }
    connection.disconnect().await
}

async fn confirm(connection: &mut Conn, note: &str, refused: Result<()>) -> Result<()> {
    let Err(Error::Server(refusal)) = refused else { panic!("not refused: {refused:?}") };
    println!("refused {} {note}", refusal.code);
    let token = refusal.message.split("SLUICE CONFIRM '").nth(1).and_then(|rest| rest.split('\'').next());
    connection.query_drop(format!("SLUICE CONFIRM '{}'", token.unwrap_or_default())).await?;
    println!("confirmed {}", connection.affected_rows());
    Ok(())
}
