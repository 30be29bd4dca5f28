//! What decides how the session's texts are read, as the server itself says: `sql_mode`, the character set, the default database.
//!
//! Invariant: what may have changed unseen is not known, and is asked before a text is read whose meaning depends on it. The server's
//! tracking tells character set and database as they change (`session_track_system_variables` and `session_track_schema` at their
//! defaults, on both products), its status flags tell NO_BACKSLASH_ESCAPES; `sql_mode` has to be asked for.
//!
//! Source: MySQL manual, "Server Tracking of Client Session State"; tried on MySQL 9.7 and MariaDB 10.11.

use crate::protocol::mysql::response::Tracked;
use crate::sql::encoding::{self, Letters};
use crate::sql::statement::{LexicalMode, MySqlMode};

#[derive(Debug, Clone)]
pub(in crate::session) struct Settings {
    mode: MySqlMode,
    /// The client can be sent our words as they are.
    pub takes_utf8: bool,
    charset: String,
    letters: Letters,
    /// What was last asked still holds.
    known: bool,
}

/// What is asked, in this order.
/// Names as hexadecimal digits: in an answer's character set two of them may look the same.
pub(in crate::session) const QUESTION: &str = "SELECT @@SESSION.sql_mode, @@SESSION.character_set_client, \
     HEX(CONVERT(DATABASE() USING utf8mb4)), HEX(CONVERT(CURRENT_USER() USING utf8mb4)), HEX(CONVERT(CURRENT_ROLE() USING utf8mb4))";

impl Settings {
    /// Of a session that has just logged in: nothing was asked yet.
    pub fn of(mode: MySqlMode) -> Settings {
        Settings { mode, takes_utf8: true, charset: String::new(), letters: Letters::Utf8, known: false }
    }

    pub fn mode(&self) -> LexicalMode {
        LexicalMode::MySql(self.mode)
    }

    pub fn own_mode(&self) -> MySqlMode {
        self.mode
    }

    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Something may have changed what was asked for.
    pub fn forget(&mut self) {
        self.known = false;
    }

    /// The answer to [`QUESTION`].
    pub fn learn(&mut self, sql_mode: &str, character_set: &str) {
        self.mode = self.mode.with_sql_mode(sql_mode);
        self.take_character_set(character_set);
        self.known = true;
    }

    /// What an OK packet says has changed.
    pub fn note(&mut self, change: &Tracked) {
        if let Tracked::Variable { name, value } = change {
            match name.as_str() {
                "character_set_client" => self.take_character_set(value),
                "sql_mode" => self.known = false,
                _ => {}
            }
        }
    }

    /// The status flag, which every OK and EOF packet carries.
    pub fn note_backslashes(&mut self, escape_nothing: bool) {
        if self.mode.no_backslash_escapes != escape_nothing {
            self.mode.no_backslash_escapes = escape_nothing;
            self.known = false;
        }
    }

    /// `character_set_client`; empty while it is not known.
    pub fn charset(&self) -> &str {
        &self.charset
    }

    /// How its texts are written.
    pub fn letters(&self) -> Letters {
        self.letters
    }

    /// In this character set the text may mean something else than it seems to; so it may in one that is not known.
    pub fn reads_otherwise(&self, text: &[u8]) -> bool {
        encoding::mysql_reads_otherwise(&self.charset, text)
    }

    fn take_character_set(&mut self, name: &str) {
        name.clone_into(&mut self.charset);
        self.takes_utf8 = encoding::is_mysql_utf8(name);
        self.letters = Letters::of_mysql(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::Product;

    #[test]
    fn what_the_server_says_is_what_holds() {
        let mut settings = Settings::of(MySqlMode::of(Product::MySql, 90704));
        assert!(
            !settings.is_known() && settings.reads_otherwise("é".as_bytes()),
            "what was not asked is taken for the worst"
        );
        settings.learn("REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ONLY_FULL_GROUP_BY,ANSI", "utf8mb4");
        let mode = settings.own_mode();
        assert!(mode.ansi_quotes && mode.pipes_as_concat && mode.ignore_space && !mode.no_backslash_escapes);
        assert!(settings.is_known() && !settings.reads_otherwise("é".as_bytes()) && settings.takes_utf8);
        settings.note(&Tracked::Variable { name: "character_set_client".into(), value: "gbk".into() });
        assert!(settings.reads_otherwise("é".as_bytes()) && settings.is_known());
        settings.note_backslashes(true);
        assert!(!settings.is_known() && settings.own_mode().no_backslash_escapes);
    }
}
