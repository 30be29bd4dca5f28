//! `sluice demo`: the throwaway database of [`crate::cli::demo`] with a gate before it, and the lines to type.
//!
//! Invariant: everything it makes (database, store, record) lies in one temporary directory that goes when it ends.

use crate::cli::demo::{self, Product, Wanted};
use crate::cli::run::{Service, start_log};
use crate::config;
use tokio::signal::unix::{SignalKind, signal};

/// Until Ctrl-C or SIGTERM.
pub fn run(wanted: &Wanted) -> Result<(), String> {
    let (product, port) = (wanted.product(), wanted.port);
    // From here on a signal no longer ends the process at once: the database must be stopped first.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        signal(SignalKind::interrupt())
            .and(signal(SignalKind::terminate()))
            .map(drop)
            .map_err(|error| error.to_string())
    })?;
    // Before ten seconds are spent on a database.
    std::net::TcpListener::bind(("127.0.0.1", port))
        .map_err(|error| format!("port {port} of 127.0.0.1: {error}; choose another one with --port"))?;
    println!("Making a throwaway {} with customers, carts and their items …", product.name());
    let database = demo::start(product).map_err(|error| error.to_string())?;
    let done = serve(&database, product, port);
    println!("\nStopping the database and removing {} …", database.dir.display());
    database.stop().map_err(|error| error.to_string())?;
    done
}

fn serve(database: &demo::Database, product: Product, port: u16) -> Result<(), String> {
    let state = std::env::temp_dir().join(format!("sluice-demo-{}", std::process::id()));
    std::fs::create_dir(&state).map_err(|error| format!("{}: {error}", state.display()))?;
    let text = format!(
        "[[listener]]\nname = \"demo\"\nprotocol = \"{}\"\nlisten = \"127.0.0.1:{port}\"\nupstream = \"unix:{}\"\n\
         [store]\nurl = \"sqlite:{}\"\n[audit]\npath = \"{}\"\n[admin]\nlisten = \"off\"\n[log]\nlevel = \"warn\"\n",
        product.protocol(),
        database.socket.display(),
        state.join("sluice.db").display(),
        state.join("sluice-audit.jsonl").display(),
    );
    let served = config::parse(&text, "demo").map_err(|errors| errors.render()).and_then(|config| {
        start_log(&config);
        let service = Service::start(config, None)?;
        let port =
            service.addresses().first().and_then(|address| address.rsplit(':').next()?.parse().ok()).unwrap_or(port);
        service.serve(|| {
            println!("\nThe gate is open. In another terminal, type:\n\n{}", indented(&product.script(port)));
            println!(
                "The record: {}\nCtrl-C ends it and removes everything.",
                state.join("sluice-audit.jsonl").display()
            );
        })
    });
    let _ = std::fs::remove_dir_all(&state);
    served
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
