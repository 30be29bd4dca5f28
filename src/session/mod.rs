//! One client's conversation.
pub mod link;
pub mod login;
pub mod registry;
pub mod upstream;
pub mod wire;
