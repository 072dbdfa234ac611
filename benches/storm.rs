//! `git checkout` of a branch in which thousands of files differ: `cargo bench --bench storm`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints; panics on errors")]
#![allow(dead_code, reason = "each benchmark uses only a part of `common`")]

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::{Project, Tool, head, median, milliseconds, now, option, row, tools};

fn git(project: &Project, words: &[&str]) {
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"];
    let mut command = Command::new("git");
    command.args(who).args(words).current_dir(&project.root);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    assert!(command.output().unwrap().status.success(), "git {words:?}");
}

fn write(project: &Project, files: u32, version: &str) {
    for number in 0..files {
        let place = project.root.join(format!("src/part{}", number / 100));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(format!("file{number}.txt")), format!("{version} {number}\n"))
            .unwrap();
    }
    project.save(version);
}

fn main() {
    common::run_as_helper();
    let (rounds, files) = (option("rounds", 4), option("files", 10_000));
    head(
        &format!("checkout of {files} files ({rounds} rounds, medians)"),
        &["end-app ms", "cpu ms", "starts", "stale"],
    );
    let all = [Tool::Hotrun, Tool::Air, Tool::Wgo, Tool::Watchexec, Tool::Entr, Tool::Nodemon];
    for tool in tools(&all) {
        let project = Project::new("storm");
        fs::write(project.root.join(".gitignore"), "/out/\n.air.toml\n").unwrap();
        git(&project, &["init", "-q", "-b", "one"]);
        write(&project, files, "one");
        git(&project, &["add", "-A"]);
        git(&project, &["commit", "-qm", "one"]);
        git(&project, &["checkout", "-qb", "two"]);
        write(&project, files, "two");
        git(&project, &["commit", "-qam", "two"]);
        git(&project, &["checkout", "-q", "one"]);
        let session = tool.start(&project);
        if project.wait_for("one").is_none() {
            continue;
        }
        project.settle(Duration::from_secs(2));
        let (mut late, mut cpu, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let mut stale = 0;
        for round in 0..rounds {
            let branch = if round % 2 == 0 { "two" } else { "one" };
            let before = session.cpu();
            git(&project, &["checkout", "-qf", branch]);
            let end = now();
            let (mut last, mut version, mut count) = (0, String::new(), 0_u32);
            while let Some(start) =
                project.next_start(tool.settles_in().max(Duration::from_millis(800)))
            {
                (last, version) = (start.at, start.version);
                count += 1;
            }
            late.push(milliseconds(last.saturating_sub(end)));
            cpu.push(session.cpu().saturating_sub(before).as_secs_f64() * 1000.0);
            starts.push(f64::from(count));
            stale += u32::from(version != branch);
        }
        let mut columns: Vec<String> =
            [late, cpu, starts].iter().map(|values| format!("{:.1}", median(values))).collect();
        columns.push(stale.to_string());
        row(tool.name(), &columns);
    }
}
