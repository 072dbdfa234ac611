//! `hotrun help`: the options, a list of the guide's pages, and each page.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process;

use clap::Command;

use crate::error::{Error, Result};
use crate::guide::{self, PAGES, Page};
use crate::project::guess::search;

/// The widest lines that are comfortable to read, in columns.
const MAX_WIDTH: usize = 96;
/// Narrower terminals break the lines themselves.
const MIN_WIDTH: usize = 40;
/// The size of a terminal that does not report one.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// What `hotrun help` shows.
#[derive(Debug)]
pub(super) enum Topic {
    /// The options, and a list of the pages.
    Overview,
    /// A page of the guide.
    Page(&'static Page),
    /// The options of a subcommand, by its name.
    Subcommand(String),
}

impl Topic {
    /// Returns what the words after `hotrun help` name. `command` is the whole command line.
    pub(super) fn named(command: &Command, words: &[OsString]) -> Result<Self> {
        let Some(word) = words.first() else { return Ok(Self::Overview) };
        let name = word.to_string_lossy().to_lowercase();
        if let Some(page) = guide::page(&name) {
            return Ok(Self::Page(page));
        }
        if command.find_subcommand(&name).is_some() {
            return Ok(Self::Subcommand(name));
        }
        let subcommands = || command.get_subcommands().map(Command::get_name);
        let names = || subcommands().chain(PAGES.iter().map(|page| page.name));
        let is_start = |one: &&str| name.len() >= 3 && one.starts_with(&name);
        let distances = names().map(|one| (strsim::osa_distance(&name, one), one));
        let is_near = |(distance, one): &(usize, &str)| distance * 3 <= one.len();
        let nearest = names().find(is_start).or(distances.min().filter(is_near).map(|one| one.1));
        let error = Error::usage(format!("hotrun help {}", word.display()), "no such topic");
        Err(error.remedy(match nearest {
            Some(nearest) => format!("did you mean `hotrun help {nearest}`?"),
            None => "`hotrun help` lists all topics".to_owned(),
        }))
    }
}

/// Shows the options and lists the pages.
pub(super) fn overview(command: &Command) {
    let help = command.clone().render_help();
    let mut text = if has_color() { help.ansi().to_string() } else { help.to_string() };
    let longest = PAGES.iter().map(|page| page.name.len()).max().unwrap_or_default();
    text.push_str("\nGuide (hotrun help TOPIC):\n");
    for page in PAGES {
        let _ = writeln!(text, "  {:longest$}  {}", page.name, page.about);
    }
    show(&text);
}

/// Shows a page: styled and wrapped on a terminal, as it is written elsewhere.
pub(super) fn page(page: &Page) {
    if !io::stdout().is_terminal() {
        return show(page.text);
    }
    let width = size().0.clamp(MIN_WIDTH, MAX_WIDTH);
    show(&guide::render(page.text, width, has_color()));
}

fn has_color() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Columns and lines of the terminal.
fn size() -> (usize, usize) {
    match terminal_size::terminal_size() {
        Some((width, height)) if width.0 > 0 => (width.0.into(), height.0.into()),
        _ => USUAL_SIZE,
    }
}

/// Writes a text to stdout, through the pager if it is longer than the screen.
fn show(text: &str) {
    if io::stdout().is_terminal() && text.lines().count() >= size().1 {
        // Returns only if there is no pager.
        let _ = page_through(text);
    }
    // A closed stdout is no reason to fail.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Whether the first word of `PAGER` names a program, as far as that can be seen without a shell.
fn is_found(pager: &OsStr) -> bool {
    let text = pager.to_string_lossy();
    if text.contains([';', '|', '&', '$', '`', '(', '<', '>', '=']) {
        return true;
    }
    shlex::split(&text)
        .unwrap_or_default()
        .first()
        .is_some_and(|word| search::on_path(word).is_some())
}

/// Becomes the pager, which reads the text from a file without a name: with hotrun as its parent,
/// Ctrl-C would leave the pager on the terminal beside the shell.
fn page_through(text: &str) -> io::Result<()> {
    let mut command = match std::env::var_os("PAGER") {
        Some(pager) if pager.is_empty() => return Ok(()),
        Some(pager) if !is_found(&pager) => return Ok(()),
        Some(pager) => {
            let mut shell = process::Command::new("sh");
            shell.arg("-c").arg(pager);
            shell
        }
        None => process::Command::new("less"),
    };
    for (name, value) in [("LESS", "FRX"), ("LESSCHARSET", "utf-8")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    Err(command.stdin(unnamed_file(text)?).exec())
}

/// A file that holds the text, read from its beginning, and is gone when it is closed.
fn unnamed_file(text: &str) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("hotrun-help-{}", process::id()));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
