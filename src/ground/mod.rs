//! What everything stands on: bounds, time, identity, secrets. Knows nothing of SQL or of wires.
pub mod limits;
