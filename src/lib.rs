//! hotrun
pub mod state;
pub mod event;
pub mod error;
