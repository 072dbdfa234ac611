//! Lines about the processes that write files.

use std::path::PathBuf;
use std::time::Duration;

use super::{Context, Line, duration};
use crate::report::{Part, Tone};

pub(super) fn finishing(cx: &Context<'_>, paths: &[PathBuf]) -> Line {
    let names = cx.names(paths);
    let text = format!("{names}; finishing the running build first, the next one includes this");
    Line::new(Part::Watcher, Tone::Plain, "saved", text)
}

pub(super) fn outputs(cx: &Context<'_>, paths: &[PathBuf]) -> Line {
    let names = cx.names(paths);
    let text =
        format!("{names}: written by the build; changes during a build do not start another");
    Line::new(Part::Watcher, Tone::Plain, "output", text)
}

pub(super) fn late(cx: &Context<'_>, paths: &[PathBuf], pause: Duration) -> Line {
    let names = cx.names(paths);
    let text = format!("{names}, perhaps by the program itself; acted on in {}", duration(pause));
    Line::new(Part::Watcher, Tone::Plain, "changed", text)
}

pub(super) fn own_writes(cx: &Context<'_>, paths: &[PathBuf]) -> Line {
    let names = cx.names(paths);
    let first = cx.names(&paths[..paths.len().min(1)]);
    Line::note(format!(
        "the program itself writes {names}, and would restart forever, so these writes are \
         ignored; to exclude the file: [watch] exclude = [{first:?}], or exclude_regex in the rule"
    ))
}

pub(super) fn testing(
    cx: &Context<'_>,
    saved: &[PathBuf],
    paths: &[PathBuf],
    pause: Duration,
) -> Line {
    let [saved, names] = [saved, paths].map(|paths| cx.names(paths));
    let pause = duration(pause);
    let text = format!("{saved}; building in {pause}, to see whether the build writes {names}");
    Line::new(Part::Watcher, Tone::Plain, "saved", text)
}

pub(super) fn changes_in_builds(cx: &Context<'_>, paths: &[PathBuf], pause: Duration) -> Line {
    let names = cx.names(paths);
    Line::note(format!(
        "{names} changed during the build, as in the builds before; next build in {}",
        duration(pause)
    ))
}

pub(super) fn for_browser(cx: &Context<'_>, paths: &[PathBuf], css: bool) -> Line {
    let what = if css { "the style sheets" } else { "the page" };
    let names = cx.names(paths);
    let text = format!("{names}; reload {what} in the browser (hotrun does not reload it yet)");
    Line::new(Part::Watcher, Tone::Plain, "changed", text)
}
