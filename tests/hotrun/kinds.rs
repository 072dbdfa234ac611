//! Projects of many kinds, as their own tools would make them: `hotrun` alone runs each, and runs
//! the new code after a save. Tools that are not installed are named and skipped.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::sandbox::{Sandbox, has, is_alive, pid_in};

mod compiled;
mod node;
mod online;
mod scripts;
mod tasks;

pub(crate) struct Kind {
    name: &'static str,
    tools: &'static [&'static str],
    /// The files; `WORD` is what the program prints. That with the source comes first.
    files: &'static [(&'static str, &'static str)],
    /// What hotrun says that it runs; empty where it needs no guess.
    guess: &'static str,
    /// A source that does not parse, where such a save must leave the program alone.
    broken: Option<&'static str>,
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs each project, saves a source that does not parse, and then another version.
fn run_each(test: &str, kinds: &[Kind]) {
    // Compilers beside each other would slow down everything else.
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for Kind { name, tools, files, guess, broken } in kinds {
        if !has(&format!("{test} ({name})"), tools) {
            continue;
        }
        let mut project = Sandbox::empty();
        for (file, text) in *files {
            let text = text.replace("WORD", "one");
            project = match text.strip_prefix("#!/bin/sh\n") {
                Some(script) => project.script(file, script),
                None => project.file(file, &text),
            };
        }
        try_one(name, &project, (files[0].0, files[0].1), guess, *broken);
    }
}

#[expect(clippy::print_stdout, reason = "the table of what runs, shown with --nocapture")]
fn try_one(
    name: &str,
    project: &Sandbox,
    (source, text): (&str, &str),
    guess: &str,
    broken: Option<&str>,
) {
    let began = Instant::now();
    let mut hotrun = project.start(&[]);
    let line = if guess.is_empty() { String::new() } else { hotrun.wait_for("guess") };
    assert!(line.contains(guess), "{name}: {line}");
    hotrun.wait_for_all(&["up one", "started", "ready"]);
    println!("{name:25} {line}; ready in {} ms", began.elapsed().as_millis());
    let mut starts = 2;
    if let Some(broken) = broken {
        let output = hotrun.output();
        let started = output.lines().find(|line| line.contains("  started  "));
        let program = pid_in(started.unwrap_or_default());
        project.save(source, broken);
        // On a machine that is too busy a check takes longer than hotrun grants it.
        let told = hotrun.wait_for_any(&["keeps running", "counts as passed"]);
        if told.contains("keeps running") {
            assert!(told.contains("failed"), "{name}: {told}");
            assert!(is_alive(program), "{name}: {}", hotrun.output());
        } else {
            starts = 3;
        }
    }
    project.save(source, &text.replace("WORD", "two"));
    hotrun.wait_for("up two");
    let output = hotrun.end();
    // (Some print once more what they have printed when they are stopped.)
    assert_eq!(output.matches("  started  ").count(), starts, "{name}: {output}");
}
