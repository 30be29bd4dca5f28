//! A guarded statement on its way: preview, challenge, confirmation.

pub mod challenge;
