//! From a save to the new process, in milliseconds: `cargo bench --bench save`.
//!
//! All tools run at the same time, each on its own project. They take turns after each save, so
//! that a slow moment of the machine affects all of them.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints; panics on errors")]
#![allow(dead_code, reason = "each benchmark uses only a part of `common`")]

mod common;

use std::fs;

use common::{Project, Session, Tool, head, median, milliseconds, now, option, part, row, tools};

/// A way of saving a version. Returns the time.
type Way = fn(&Project, &str) -> u64;

const WAYS: [(&str, Way); 3] =
    [("in place", Project::save), ("renamed over", renamed), ("vim", vim)];

fn renamed(project: &Project, version: &str) -> u64 {
    let beside = project.source().with_extension("tmp");
    fs::write(&beside, format!("{version}\n")).unwrap();
    let at = now();
    fs::rename(beside, project.source()).unwrap();
    at
}

/// As vim saves: probes the directory, renames the old file to a backup, writes the new one,
/// deletes the backup.
fn vim(project: &Project, version: &str) -> u64 {
    let (probe, backup) =
        (project.source().with_file_name("4913"), project.source().with_extension("txt~"));
    fs::write(&probe, "").unwrap();
    fs::remove_file(probe).unwrap();
    fs::rename(project.source(), &backup).unwrap();
    let at = project.save(version);
    fs::remove_file(backup).unwrap();
    at
}

fn main() {
    common::run_as_helper();
    let rounds = option("saves", 20);
    let all = [
        Tool::Floor,
        Tool::Hotrun,
        Tool::HotrunGenerated,
        Tool::Air,
        Tool::Wgo,
        Tool::Watchexec,
        Tool::Entr,
        Tool::Nodemon,
        Tool::AirGenerated,
    ];
    for (name, save) in WAYS {
        let mut running: Vec<(Project, Session, Vec<f64>, usize)> = Vec::new();
        for tool in tools(&all) {
            let project = Project::new(&format!("save-{}", running.len()));
            let session = tool.start(&project);
            if project.wait_for("v0").is_some() {
                project.settle(tool.settles_in().max(std::time::Duration::from_millis(1500)));
                running.push((project, session, Vec::new(), 0));
            }
        }
        for round in 1..=rounds {
            for (project, session, times, extra) in &mut running {
                let version = format!("v{round}");
                let saved = save(project, &version);
                if let Some(start) = project.wait_for(&version) {
                    times.push(milliseconds(start.at.saturating_sub(saved)));
                }
                *extra += project.settle(session.tool.settles_in());
            }
        }
        head(
            &format!("save to new process, ms, {name} ({rounds} saves)"),
            &["p50", "p95", "x floor", "more starts"],
        );
        let floor = running.iter().find(|one| one.1.tool == Tool::Floor);
        let floor = floor.map_or(f64::NAN, |one| median(&one.2));
        for (_, session, times, extra) in &running {
            let p50 = median(times);
            let columns = [
                format!("{p50:.1}"),
                format!("{:.1}", part(times, 0.95)),
                format!("{:.2}", p50 / floor),
                extra.to_string(),
            ];
            row(session.tool.name(), &columns);
        }
    }
}
