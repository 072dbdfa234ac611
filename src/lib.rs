//! hotrun
pub mod filter;
pub mod outputs;
pub mod state;
pub mod config;
pub mod project;
pub mod event;
pub mod error;
