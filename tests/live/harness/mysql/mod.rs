//! The same for MySQL and MariaDB: two servers, started once for the run, and a client that hides nothing.
//!
//! Invariant: the one its parent keeps; and nothing of the product's own protocol room is used, so that an error there cannot hide
//! an error there.

// What the stories that are still to come will use.
#![allow(dead_code)]

pub mod comparison;
pub mod login;
pub mod packet;
pub mod server;
pub mod shop;
pub mod wire;

/// Tells each story of this file once on MariaDB and once on MySQL: `stories! { name, … }` makes the tests `name::mariadb_10_11` and
/// `name::mysql_9_7` from `fn name(server: &'static MyServer)`.
macro_rules! my_stories {
    ($($story:ident),* $(,)?) => {
        $(mod $story {
            #[test]
            fn mariadb_10_11() {
                super::$story($crate::harness::mysql::server::MyServer::mariadb());
            }
            #[test]
            fn mysql_9_7() {
                super::$story($crate::harness::mysql::server::MyServer::mysql());
            }
        })*
    };
}
pub(crate) use my_stories;
