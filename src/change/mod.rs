//! A guarded statement on its way: what its sender is shown, what a confirmation of it is bound to, and how that is redeemed.

pub mod batch;
pub mod challenge;
pub mod ledger;
pub mod preview;
pub mod promise;
