//! Tests of hotrun's promises with real processes. Each file covers one promise, and a test's name
//! states it. No test sleeps: it waits for a line.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod sandbox;
mod session;

mod air;
mod app;
mod attribution;
mod bad_input;
mod build;
mod chaos;
mod command;
mod cargo_run;
mod downtime;
mod end;
mod env;
mod examples;
mod first;
mod generators;
mod go;
mod hang_ups;
mod hardened;
mod kinds;
mod language;
mod listing;
mod lock;
mod order;
mod orphans;
mod pipelines;
mod polling;
mod ports;
mod proxy;
mod random;
mod ready;
mod rescue;
mod rollback;
mod rules;
mod rust;
mod saves;
mod screen;
mod seeds;
mod sessions;
mod sockets;
mod status;
mod stopping;
mod terminal;
mod trees;
mod watching;
mod words;
