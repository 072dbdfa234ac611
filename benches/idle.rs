//! The cost of running idle: `cargo bench --bench idle`.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::unwrap_used, reason = "a benchmark panics on errors")]
#![allow(dead_code, reason = "each benchmark uses only a part of `common`")]

mod common;

use std::time::Duration;

use common::{Project, Tool, head, option, row, tools};

fn main() {
    common::run_as_helper();
    let seconds = option("seconds", 10);
    head(&format!("idle for {seconds} s"), &["cpu ms", "switches/s", "memory MiB"]);
    let all = [
        Tool::Floor,
        Tool::Hotrun,
        Tool::Air,
        Tool::Wgo,
        Tool::Watchexec,
        Tool::Entr,
        Tool::Nodemon,
    ];
    for tool in tools(&all) {
        let project = Project::new("idle");
        let session = tool.start(&project);
        if project.wait_for("v0").is_none() {
            continue;
        }
        project.settle(Duration::from_secs(2));
        let (cpu, switches) = (session.cpu(), session.switches());
        std::thread::sleep(Duration::from_secs(seconds.into()));
        let switches = u32::try_from(session.switches() - switches).unwrap_or(u32::MAX);
        let columns = [
            format!("{}", session.cpu().saturating_sub(cpu).as_millis()),
            format!("{:.1}", f64::from(switches) / f64::from(seconds)),
            format!("{:.1}", session.memory()),
        ];
        row(tool.name(), &columns);
    }
}
