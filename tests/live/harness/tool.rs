//! Runs somebody else's client (psql, a Python script, …) to its end, with a deadline, and keeps what it said.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Tool {
    command: Command,
    input: Vec<u8>,
    shown: String,
}

/// What a tool said.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

impl Tool {
    /// Where s/prepare puts the clients.
    pub fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
    }

    /// Through `timeout`, so that a client that hangs ends its story instead of the run.
    pub fn new(program: impl AsRef<Path>) -> Tool {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120"]).arg(program.as_ref());
        for (name, value) in [("LC_ALL", "C"), ("PGCONNECT_TIMEOUT", "30"), ("PSQLRC", "/nowhere"), ("NO_COLOR", "1")] {
            command.env(name, value);
        }
        Tool { command, input: Vec::new(), shown: program.as_ref().display().to_string() }
    }

    pub fn args<T: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Tool {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Tool {
        self.command.env(name, value);
        self
    }

    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Tool {
        self.input = input.into();
        self
    }

    pub fn run(mut self) -> Said {
        let piped = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.shown));
        let mut stdin = child.stdin.take().expect("piped");
        let input = std::mem::take(&mut self.input);
        // Fed from aside: a client that answers before it has read everything must not be waited for in a circle.
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("an end");
        let _closed_early = feeder.join();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code() }
    }

    /// Runs it; fails the story unless it ended well.
    pub fn run_fine(self) -> Said {
        let shown = self.shown.clone();
        let said = self.run();
        assert_eq!(said.code, Some(0), "{shown}\n{}\n{}", said.out, said.err);
        said
    }
}
