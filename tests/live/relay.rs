//! The relay: every byte of every answer is as without Sluice.

use crate::harness::comparison::direct_is_through_for;
use crate::harness::message::query;
use crate::harness::server::Server;
use crate::harness::stories;

stories! { simple_queries }

fn simple_queries(server: &'static Server) {
    direct_is_through_for(
        server,
        "",
        &[
            query("SELECT 1, NULL, 'x'"),
            query("SELECT 1; SELECT 2"),
            query(""),
        ],
    );
}
