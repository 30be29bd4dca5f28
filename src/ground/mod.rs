//! Time, identity, bounds and secrets: what every room stands on. Imports nothing of ours.

pub mod clock;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod secret;
