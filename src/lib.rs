//! hotrun watches a project's files, rebuilds on save and restarts the program.
//!
//! # Follow a save
//!
//! 1. [`watch`] receives the event that a file was written and closed, or finds the change by
//!    polling or by comparing timestamps. It polls where the file system sends no events, and
//!    compares timestamps where events were lost. The [`filter`] decides that the file matters, and
//!    [`watch`] reads when it was written and what it holds. When the burst is over and git has
//!    finished its operation, one message goes into the inbox.
//! 2. [`engine`] takes the message out. [`own_writes`] confirms that the program did not write the
//!    file itself, [`core::attribution`] that no build did, and [`filter`] that it is a source file
//!    and matches no rule.
//! 3. [`core`] decides: what is being made changes from *Idle* to *Building*; the build is spawned
//!    and reported. A file that matches a rule goes through *Running rules* first.
//! 4. [`process`] has a guardian run the build's commands. Their output goes straight to the
//!    terminal. Where there is nothing to build, a syntax check runs instead. The old app keeps
//!    serving.
//!    In a Cargo project a query may follow: which environment does `cargo run` give the program
//!    ([`project::cargo::launch`])?
//! 5. The build succeeds. If it left the program unchanged, and only the compiler reads the changed
//!    files, nothing follows. Otherwise [`core`] stops the old app, waits until it is gone, and
//!    has the new one spawned. In a handover, the new app is spawned beside the old one. It
//!    inherits the sockets that [`listen`] holds.
//! 6. [`ready`] reports that the new app serves. In a handover the old one is stopped now. When the
//!    app has run for a while, [`artifact`] keeps a copy of its artifact for a rollback.
//! 7. Each of these steps was a [`notice`]. The [`engine`] made a [`record`] of it, with what it
//!    knows of the processes, and [`report`] has printed a line. What is the [`present`] now, others
//!    see by [`control`].
//!
//! # The map
//!
//! Each module uses only modules below it; a test (`tests/hotrun/order.rs`) enforces this, also for
//! the modules that another one declares. The list reads downward as the story of a save.
//!
//! Invariants that span modules:
//!
//! - [`core`] is the only place that decides what happens next, and it is pure.
//! - [`process`] is the only place that spawns a process, waits for one, or signals one that hotrun
//!   started. It spawns only guardians itself: this executable again, whose `main` is
//!   [`process::guardian::main`].
//! - Only [`watch`], [`config`] and [`engine`] read the project's files, with two exceptions.
//!   [`project`] reads cargo's configuration and its reports about a build, Go's package clauses,
//!   and the files that [`project::guess`] needs. [`artifact`] and [`engine`] read build artifacts.
//! - There is one inbox, so the order of events is total.
//! - A directory is watched before it is listed, so that nothing appears in it unnoticed. An
//!   ignored directory is neither watched nor listed.

// The documentation is for contributors, and is built with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("hotrun runs on Linux and macOS: it needs process groups and Unix signals");

// The command line and its subcommands.
pub mod cli;
// The pages of `hotrun help TOPIC`. Pure.
mod guide;
// Writes a project's first configuration, also from another tool's configuration.
mod init;
// The event loop: performs what the core has decided.
mod engine;
// Files become bursts of changed paths.
mod watch;
// Decides whether a path matters. Pure.
pub mod filter;
// Keys become messages.
mod keys;
// Signals become messages.
mod signal;
// Detects a program that writes the files that restart it. Pure.
mod own_writes;
// Requests from another terminal become messages.
mod control;
// One running hotrun for each project and configuration.
mod lock;
// Requests of browsers go to the program that serves, and wait while none does.
mod proxy;
// Detects when an app serves.
mod ready;
// Spawns, stops and waits for whole process trees; hands over the terminal.
mod process;
// Sockets that outlive the program.
mod listen;
// Copies of good artifacts, kept for a rollback.
mod artifact;
// Records become lines on the terminal.
mod report;
// What happened, and what was known of the processes then.
mod record;
// The present, as others see it. Pure.
mod present;
// Errors and warnings in the output of builds. Pure.
mod diagnostics;
// TOML becomes a resolved configuration.
pub mod config;
// Detects the kind of project, and what follows from it.
pub mod project;
// Sessions as files: every event of the core.
mod recording;
// Decides what follows from each event, and whether a build wrote a file. Pure.
mod core;
// The engine's inbox, as each source sees it.
mod inbox;
// What hotrun has to tell, typed and without a wording. Pure.
mod notice;
// The vocabulary: types that all modules share.
mod event;
// Errors: input, reason, remedy, exit code.
pub mod error;
// Directories that hotrun may delete.
mod own_dir;
// Text from outside hotrun, made safe for a terminal. Pure.
mod text;
// Malformed input for tests.
#[cfg(test)]
mod fuzz;
