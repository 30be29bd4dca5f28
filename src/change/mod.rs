//! A guarded statement on its way: what its sender is shown, and what a confirmation of it is bound to.
pub mod preview;
pub mod promise;
