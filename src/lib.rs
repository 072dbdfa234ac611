//! hotrun watches a project's files, rebuilds on save and restarts the program.
//!
//! # Follow a save
//!
//! 1. [`watch`] hears from the operating system that a file was written and closed (or finds
//!    it so: by looking, where nobody tells, and by comparing times, where something was not
//!    heard). The [`filter`] says that it matters, the burst is over, and one message goes into
//!    the inbox.
//! 2. [`engine`] takes it out. By [`outputs`], it is not a file that builds write themselves;
//!    by the [`filter`], it is a source, and no rule's.
//! 3. [`state`] decides: *Idle* becomes *Building*; spawn the build, say so. (Had a rule had
//!    it, *Ruling* would have come first.)
//! 4. [`process`] has a guardian run the build's commands, their output going straight to the
//!    terminal. The old app serves on.
//!    In a Cargo project a question may follow: what does `cargo run` give the program
//!    ([`project::cargo::launch`])?
//! 5. The build ends well. [`state`] dismisses the old app and waits until it is gone, then
//!    has the new one spawned; or, in a handover, has it spawned beside the old one. It
//!    inherits what [`listen`] holds.
//! 6. [`ready`] says that it serves. In a handover the old one is dismissed now. The phase is
//!    *Idle* again. When the app has lived for a while, [`artifact`] keeps a copy of what it was
//!    started from, to go back to.
//! 7. [`report`] has said a line for each thing that happened.
//!
//! # The map
//!
//! Each module uses only modules below it; a test (`tests/hotrun/order.rs`) holds them to it. The
//! list reads downward as the story of a save.
//!
//! Invariants that no single module can hold:
//!
//! - [`state`] is the only place that decides what happens next, and it is pure.
//! - [`process`] is the only place that spawns or waits for a process, and signals one that
//!   hotrun has started. All that it spawns itself are guardians: this program again, whose
//!   `main` is [`process::guardian::main`].
//! - Nothing but [`watch`], [`config`] and [`engine`] reads the project's files; [`project`] reads
//!   cargo's configuration and what cargo says of a build, [`artifact`] what was built.
//! - There is one inbox, so the order of events is total.
//! - No directory is listed before it is watched, so that nothing appears in it unseen; none
//!   that is ignored is either.

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("hotrun runs on Linux and macOS: it needs process groups and Unix signals");

// The command line, its subcommands.
pub mod cli;
// The first configuration of a project, also out of another tool's.
pub mod init;
// The one loop; performs what was decided.
pub mod engine;
// Files become bursts of changed paths.
pub mod watch;
// Does this path matter? Pure.
pub mod filter;
// Keys become messages.
pub mod keys;
// Signals become messages.
pub mod signal;
// Is this file one that builds write? Pure.
pub mod outputs;
// What to do about it. Pure.
pub mod state;
// Orders from another terminal become messages.
pub mod control;
// When does an app serve?
pub mod ready;
// Spawn, stop, wait for a whole tree of processes; the terminal.
pub mod process;
// Sockets that outlive the program.
pub mod listen;
// Good artifacts, kept to go back to.
pub mod artifact;
// Notices become lines on the terminal.
pub mod report;
// TOML as written becomes a resolved configuration.
pub mod config;
// What kind of project is this, and what does that say?
pub mod project;
// The nouns.
pub mod event;
// Input, reason, remedy, exit code.
pub mod error;
