//! The twins of [`crate::database::effects::measure`] and [`crate::database::effects::reach`] for MySQL and MariaDB.

mod exact;
pub mod measure;
mod procedure;
pub mod reach;
mod unseen;
