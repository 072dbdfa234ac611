//! Startup in large trees, four fifths of which are ignored: `cargo bench --bench trees`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints; panics on errors")]
#![allow(dead_code, reason = "each benchmark uses only a part of `common`")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Project, Tool, head, median, milliseconds, option, row, tools};

/// Shares of every ten directories.
const SHARES: [(&str, u32, &str); 4] =
    [("src", 2, "txt"), ("node_modules", 5, "js"), ("target", 2, "o"), (".git", 1, "x")];

fn fill(project: &Project, directories: u32) {
    for (name, share, extension) in SHARES {
        for number in 0..directories / 10 * share {
            let place = project.root.join(format!("{name}/part{}/dir{number}", number / 50));
            fs::create_dir_all(&place).unwrap();
            for file in 0..5 {
                fs::write(place.join(format!("file{file}.{extension}")), "x\n").unwrap();
            }
        }
    }
}

/// Saves until a save is detected; returns the time of the start that followed.
fn seen(project: &Project, tool: Tool) -> Option<u64> {
    let until = Instant::now() + Duration::from_secs(60);
    let gap = if tool == Tool::Nodemon { 500 } else { 80 };
    while Instant::now() < until {
        project.save("seen");
        if let Some(start) = project.next_start(Duration::from_millis(gap)) {
            return Some(start.at);
        }
    }
    None
}

fn main() {
    common::run_as_helper();
    let rounds = option("rounds", 3);
    let largest = option("largest", 50_000);
    let all = [Tool::Hotrun, Tool::Air, Tool::Wgo, Tool::Watchexec, Tool::Entr, Tool::Nodemon];
    for directories in [1_000, 10_000, 50_000] {
        if directories > largest {
            continue;
        }
        let project = Project::new("trees");
        fill(&project, directories);
        head(
            &format!("{directories} directories, 80 % ignored ({rounds} rounds, medians)"),
            &["first app ms", "watching ms", "cpu ms", "memory MiB", "watches"],
        );
        let installed = tools(&all);
        let mut figures: Vec<[Vec<f64>; 5]> = vec![Default::default(); installed.len()];
        for _ in 0..rounds {
            for (tool, figures) in installed.iter().zip(&mut figures) {
                project.save("v0");
                let session = tool.start(&project);
                let Some(first) = project.wait_for("v0") else { continue };
                let watching = seen(&project, *tool);
                project.settle(tool.settles_in());
                let since = |at: u64| milliseconds(at.saturating_sub(session.began));
                figures[0].push(since(first.at));
                figures[1].extend(watching.map(since));
                figures[2].push(session.cpu().as_secs_f64() * 1000.0);
                figures[3].push(session.memory());
                figures[4].push(f64::from(u32::try_from(session.watches()).unwrap()));
            }
        }
        for (tool, figures) in installed.iter().zip(&figures) {
            let columns: Vec<String> =
                figures.iter().map(|values| format!("{:.1}", median(values))).collect();
            row(tool.name(), &columns);
        }
    }
}
