//! hotrun watches a project's files, rebuilds on save and restarts the program.
//!
//! # Follow a save
//!
//! 1. [`watch`] gets the event that a file was written and closed (or detects it by polling where
//!    the file system sends no events, and by comparing timestamps where events were lost). The
//!    [`filter`] says that it matters, [`watch`] notes what the file holds, and when the burst is
//!    over, and git has finished what it was doing, one message goes into the inbox.
//! 2. [`engine`] takes it out. [`own_writes`] confirms that the program did not write the file
//!    itself, [`attribution`] that no build did; [`filter`], that it is a source file and matches
//!    no rule.
//! 3. [`state`] decides: *Idle* becomes *Building*; the build is spawned and reported. (A file
//!    that matches a rule goes through *Ruling* first.)
//! 4. [`process`] has a guardian run the build's commands (where nothing is built, a syntax check), their output going straight to the
//!    terminal. The old app serves on.
//!    In a Cargo project a question may follow: what does `cargo run` give the program
//!    ([`project::cargo::launch`])?
//! 5. The build succeeds. If it has left the program as it was, and only the compiler reads what
//!    changed, that is all. Otherwise [`state`] dismisses the old app and waits until it is gone,
//!    then has the new one spawned; or, in a handover, has it spawned beside the old one. It
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
//!   cargo's configuration, what cargo says of a build, Go's package clauses and the files that
//!   [`project::guess`] needs, [`artifact`] and [`engine`] what was built.
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
mod watch;
// Does this path matter? Pure.
pub mod filter;
// Keys become messages.
mod keys;
// Signals become messages.
mod signal;
// Does the program write the files that restart it? Pure.
mod own_writes;
// What to do about it. Pure.
pub mod state;
// Orders from another terminal become messages.
pub mod control;
// One loop for each project and configuration.
pub mod lock;
// When does an app serve?
mod ready;
// Spawn, stop, wait for a whole tree of processes; the terminal.
pub mod process;
// Sockets that outlive the program.
mod listen;
// Good artifacts, kept to go back to.
mod artifact;
// Notices become lines on the terminal.
mod report;
// What a failed build reports. Pure.
pub mod diagnostics;
// TOML as written becomes a resolved configuration.
pub mod config;
// What kind of project is this, and what does that say?
pub mod project;
// The nouns.
mod event;
// Who wrote this file, and what follows? Pure.
mod attribution;
// Input, reason, remedy, exit code.
pub mod error;
// Directories that hotrun may delete.
mod own_dir;
// What others have chosen, shown and not obeyed. Pure.
mod text;
// Input that is almost right, for tests.
#[cfg(test)]
mod fuzz;
