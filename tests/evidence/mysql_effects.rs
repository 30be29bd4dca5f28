//! What a statement did, on both servers.
