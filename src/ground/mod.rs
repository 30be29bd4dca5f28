//! What every room stands on: bounds.
pub mod limits;
