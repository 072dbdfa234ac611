//! The tables in the documentation of [`crate::core`], as the exploration has found them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use super::scopes::{HANDOVER, PLAIN, scope};
use super::*;
use crate::core::supervisor::{Making, Serving, Stage};

const MAKING: [Making; 4] = [Making::Idle, Making::Due, Making::Running, Making::Installing];
const SERVING: [Serving; 5] =
    [Serving::Down, Serving::Due, Serving::Starting, Serving::Ready, Serving::Replacing];

/// The lines around the tables.
const MARKS: [&str; 2] = ["//! <!-- the exploration -->\n", "//! <!-- end -->\n"];

/// All moves between outlines of services that live.
fn moves() -> Vec<(Outline, Outline)> {
    let restarts = Policy { on_exit: OnExit::Restart, ..PLAIN };
    let mut moves = Vec::new();
    for policy in [PLAIN, HANDOVER, restarts] {
        let scope = Scope { gates: ALL_GATES, follow_ups: true, max_living: 2, ..scope(policy) };
        let explored = explore(Service::step, &scope).unwrap_or_else(|why| panic!("{why}"));
        moves.extend(explored.moves.into_iter().map(|(before, _, _, after, _)| (before, after)));
    }
    moves.retain(|(before, after)| before.stage == Stage::Live && after.stage == Stage::Live);
    moves
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    cells.into_iter().fold("//! |".to_owned(), |mut row, cell| {
        // Writing to a string cannot fail.
        let _ = write!(row, " {cell} |");
        row
    }) + "\n"
}

/// One row for each `before`: all `after` that a single step leads to.
fn steps<T: Copy + Ord + std::fmt::Debug>(
    title: &str,
    all: &[T],
    moves: impl Iterator<Item = (T, T)>,
) -> String {
    let moves: BTreeSet<(T, T)> = moves.filter(|(before, after)| before != after).collect();
    let mut text =
        row([title.to_owned(), "next".to_owned()]) + &row(["---", "---"].map(str::to_owned));
    for before in all {
        let next = all.iter().filter(|after| moves.contains(&(*before, **after)));
        let next: Vec<String> = next.map(|after| format!("{after:?}")).collect();
        text += &row([format!("{before:?}"), next.join(", ")]);
    }
    text
}

fn tables() -> String {
    let moves = moves();
    let reached: BTreeSet<(Making, Serving)> =
        moves.iter().map(|(_, after)| (after.making, after.serving)).collect();
    let mut text = row([String::new()].into_iter().chain(SERVING.map(|one| format!("{one:?}"))));
    text += &row((0..=SERVING.len()).map(|_| "---".to_owned()));
    for making in MAKING {
        let cells = SERVING.map(|serving| {
            if reached.contains(&(making, serving)) { "yes" } else { "" }.to_owned()
        });
        text += &row([format!("{making:?}")].into_iter().chain(cells));
    }
    text += "//!\n";
    text += &steps("being made", &MAKING, moves.iter().map(|(a, b)| (a.making, b.making)));
    text += "//!\n";
    text += &steps("serving", &SERVING, moves.iter().map(|(a, b)| (a.serving, b.serving)));
    text
}

#[test]
fn the_tables_in_the_documentation_are_those_of_the_exploration() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core.rs");
    let source = fs::read_to_string(&path).expect("the source is there");
    let [begin, end] = MARKS.map(|mark| source.find(mark).expect("the tables are marked"));
    let begin = begin + MARKS[0].len();
    let tables = tables();
    if env::var_os("HOTRUN_TEST_WRITE").is_some() {
        let written = format!("{}{tables}{}", &source[..begin], &source[end..]);
        fs::write(&path, written).expect("the source can be written");
        return;
    }
    assert_eq!(
        &source[begin..end],
        tables,
        "to write them: HOTRUN_TEST_WRITE=1 cargo test --lib the_tables_in_the_documentation"
    );
}
