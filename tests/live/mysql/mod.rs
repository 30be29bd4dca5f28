//! The same stories for MySQL 9.7 and MariaDB 10.11, by the names that PostgreSQL's have.

mod batches;
mod cascades;
mod clients;
mod corpus;
mod doors;
mod gate;
mod lexing;
mod login;
mod logins;
mod logins_attacked;
mod relay;
mod servers;
mod subqueries;
mod tripwire;
