//! The twins of [`crate::database::effects::measure`] and [`crate::database::effects::reach`] for MySQL and MariaDB.

pub mod measure;
mod procedure;
pub mod reach;
