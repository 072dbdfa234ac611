//! The guide: pages of Markdown that are compiled in and shown on the terminal.
//!
//! The pages use a small part of Markdown: headings, paragraphs, lists, tables, fenced code,
//! `code`, **bold** and links. Everything else is shown as it is written.

use std::fmt::Write as _;

#[cfg(test)]
mod configuration;

/// A page of the guide.
#[derive(Debug)]
pub(crate) struct Page {
    /// The name of the page, as in `hotrun help NAME`.
    pub(crate) name: &'static str,
    /// What the page is about, in a few words.
    pub(crate) about: &'static str,
    /// The page, in Markdown.
    pub(crate) text: &'static str,
}

/// A page, by its name and what it is about; its text is in `src/guide/NAME.md`.
macro_rules! pages {
    ($($name:literal: $about:literal,)*) => {
        &[$(Page {
            name: $name,
            about: $about,
            text: include_str!(concat!("guide/", $name, ".md")),
        },)*]
    };
}

/// All pages, in the order in which a new user needs them.
pub(crate) const PAGES: &[Page] = pages! {
    "usage": "run any project or command",
    "projects": "what hotrun runs without a configuration, for each kind of project",
    "configuration": "reference of every key",
    "environment": "variables for your program, and those that hotrun reads",
    "rules": "run a generator, restart or send a signal when other files change",
    "watching": "what counts as a save, what is ignored, what starts no build",
    "terminal": "keys, input, full-screen programs",
    "stopping": "how programs are stopped, and what may keep running",
    "ready": "when a program counts as ready",
    "zero-downtime": "no refused connections across restarts",
    "proxy": "requests wait while the program restarts; HTTPS, routes, host names",
    "rollback": "go back to the last good build",
    "migrating": "from air, nodemon, cargo-watch, watchexec, bacon and others",
    "recipes": "Docker, make, debuggers, templates, several programs",
    "troubleshooting": "a save is missed, a port is taken, a build repeats",
    "exit-codes": "what hotrun exits with",
    "internals": "how it works",
};

/// Returns the page of this name.
pub(crate) fn page(name: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.name == name)
}

/// How a piece of text looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Bold,
    Code,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Code => "36",
        }
    }
}

/// Text in which each character has a style.
type Styled = Vec<(char, Style)>;

/// Renders Markdown for a terminal of this width, with or without colours.
pub(crate) fn render(markdown: &str, width: usize, has_color: bool) -> String {
    let mut shown = Shown { text: String::new(), width, has_color };
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                let code = if code.is_empty() { String::new() } else { format!("    {code}") };
                shown.line(&paint(&code, Style::Code));
            }
        } else if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim_start();
            shown.wrap(&inline(title, Style::Bold), "", "");
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(row);
            }
            shown.table(&rows);
        } else if line.is_empty() {
            shown.line(&[]);
        } else {
            let mut text = line.to_owned();
            while let Some(more) = lines.next_if(|line| goes_on(line)) {
                text = format!("{text} {}", more.trim_start());
            }
            let item = text.strip_prefix("- ");
            let (first, rest) = if item.is_some() { ("- ", "  ") } else { ("", "") };
            shown.wrap(&inline(item.unwrap_or(&text), Style::Plain), first, rest);
        }
    }
    shown.text
}

/// Whether a line belongs to the paragraph or list item before it.
fn goes_on(line: &str) -> bool {
    !line.is_empty()
        && !line.starts_with(['#', '|'])
        && !line.starts_with("- ")
        && !line.starts_with("```")
}

fn paint(text: &str, style: Style) -> Styled {
    text.chars().map(|c| (c, style)).collect()
}

/// Text with the styles that `code`, **bold** and links stand for.
fn inline(text: &str, base: Style) -> Styled {
    let mut styled = Styled::new();
    let mut style = base;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix('`') {
            style = if style == Style::Code { base } else { Style::Code };
            rest = after;
        } else if style == Style::Code {
            styled.push((c, style));
            rest = &rest[c.len_utf8()..];
        } else if let Some(after) = rest.strip_prefix("**") {
            style = if style == Style::Bold { base } else { Style::Bold };
            rest = after;
        } else if let Some(escaped) = rest.strip_prefix("\\|") {
            styled.push(('|', style));
            rest = escaped;
        } else if let Some((name, target, after)) = link(rest) {
            styled.extend(inline(name, style));
            match target.split_once(".md") {
                Some((page, _)) if self::page(page).is_some() => {
                    styled.extend(paint(" (", style));
                    styled.extend(paint(&format!("hotrun help {page}"), Style::Code));
                    styled.push((')', style));
                }
                Some(_) | None => styled.extend(paint(&format!(" ({target})"), style)),
            }
            rest = after;
        } else {
            styled.push((c, style));
            rest = &rest[c.len_utf8()..];
        }
    }
    styled
}

/// The name and the target of a link at the beginning of a text, and what follows it.
fn link(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (target, rest) = rest.split_once(')')?;
    (!name.contains('[')).then_some((name, target, rest))
}

/// Lines of at most this width. A longer word has a line of its own.
fn wrapped(text: &[(char, Style)], width: usize) -> Vec<Styled> {
    let mut lines: Vec<Styled> = vec![Styled::new()];
    for word in text.split(|(c, _)| *c == ' ').filter(|word| !word.is_empty()) {
        let last = lines.len() - 1;
        let length = lines[last].len();
        if length > 0 && length + 1 + word.len() > width {
            lines.push(word.to_vec());
        } else {
            if let Some((_, style)) = lines[last].last().copied() {
                // A blank within code has its style, so that colours change less often.
                lines[last].push((' ', if style == word[0].1 { style } else { Style::Plain }));
            }
            lines[last].extend(word);
        }
    }
    lines
}

/// Blanks between two columns of a table.
const GAP: usize = 2;

/// What has been rendered.
struct Shown {
    text: String,
    width: usize,
    has_color: bool,
}

impl Shown {
    fn line(&mut self, text: &[(char, Style)]) {
        let mut current = Style::Plain;
        for (c, style) in text {
            if self.has_color && *style != current {
                // A reset first, since bold and a colour would add up.
                if current != Style::Plain {
                    self.text.push_str("\u{1b}[0m");
                }
                if *style != Style::Plain {
                    let _ = write!(self.text, "\u{1b}[{}m", style.code());
                }
                current = *style;
            }
            self.text.push(*c);
        }
        if current != Style::Plain {
            self.text.push_str("\u{1b}[0m");
        }
        self.text.push('\n');
    }

    fn wrap(&mut self, text: &[(char, Style)], first: &str, rest: &str) {
        for (number, line) in wrapped(text, self.width - first.len()).into_iter().enumerate() {
            let indent = if number == 0 { first } else { rest };
            let mut whole = paint(indent, Style::Plain);
            whole.extend(line);
            self.line(&whole);
        }
    }

    fn table(&mut self, rows: &[&str]) {
        let is_ruler = |row: &str| row.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
        let has_head = rows.get(1).is_some_and(|row| is_ruler(row));
        let mut cells: Vec<Vec<Styled>> = Vec::new();
        for (number, row) in rows.iter().enumerate().filter(|(_, row)| !is_ruler(row)) {
            let style = if number == 0 && has_head { Style::Bold } else { Style::Plain };
            cells.push(split_row(row).iter().map(|cell| inline(cell, style)).collect());
        }
        let widths = column_widths(&cells, self.width);
        for row in &cells {
            if row.iter().all(Vec::is_empty) {
                continue;
            }
            let row: Vec<Vec<Styled>> =
                row.iter().zip(&widths).map(|(cell, width)| wrapped(cell, *width)).collect();
            for number in 0..row.iter().map(Vec::len).max().unwrap_or_default() {
                let mut line = Styled::new();
                let mut start = 0;
                for (cell, width) in row.iter().zip(&widths) {
                    line.resize(start.max(line.len()), (' ', Style::Plain));
                    line.extend(cell.get(number).into_iter().flatten());
                    start += width + GAP;
                }
                while line.last().is_some_and(|(c, _)| *c == ' ') {
                    line.pop();
                }
                self.line(&line);
            }
        }
    }
}

/// The cells of a row; `\|` does not end one.
fn split_row(row: &str) -> Vec<String> {
    let inner = row.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    let inner = inner.replace("\\|", "\u{0}");
    inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// The widths of the columns. The widest give way until the table fits, but a column holds its
/// longest word.
fn column_widths(rows: &[Vec<Styled>], width: usize) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let longest_word = |cell: &Styled| cell.split(|(c, _)| *c == ' ').map(<[_]>::len).max();
    let mut widths: Vec<(usize, usize)> = (0..columns)
        .map(|column| {
            let whole = cells(column).map(Vec::len).max().unwrap_or_default();
            (whole, cells(column).filter_map(longest_word).max().unwrap_or_default())
        })
        .collect();
    let gaps = GAP * columns.saturating_sub(1);
    while widths.iter().map(|(width, _)| width).sum::<usize>() + gaps > width {
        let can_shrink = widths.iter_mut().filter(|(width, word)| width > word);
        let Some((widest, _)) = can_shrink.max_by_key(|(width, _)| *width) else { break };
        *widest -= 1;
    }
    widths.into_iter().map(|(width, _)| width).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_page_is_listed_once_and_each_file_is_a_page() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| {
                entry.unwrap().file_name().to_str()?.strip_suffix(".md").map(str::to_owned)
            })
            .collect();
        files.sort();
        let mut names: Vec<&str> = PAGES.iter().map(|page| page.name).collect();
        names.sort_unstable();
        assert_eq!(files, names);
    }

    #[test]
    fn pages_begin_with_a_title_and_fit_a_terminal() {
        for page in PAGES {
            assert!(page.text.starts_with("# "), "{}", page.name);
            for line in page.text.lines() {
                let is_short = line.chars().count() <= 100;
                assert!(is_short || line.starts_with('|'), "{}: {line}", page.name);
            }
            for width in [30, 40, 80, 120] {
                let shown = render(page.text, width, false);
                assert!(!shown.contains("]("), "{}", page.name);
            }
            let shown = render(page.text, 80, false);
            for line in shown.lines().filter(|line| !line.starts_with("    ")) {
                assert!(line.chars().count() <= 80, "{}: {line}", page.name);
            }
        }
    }

    /// The anchor that GitHub gives a title.
    fn anchor(title: &str) -> String {
        let title = title.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    }

    #[test]
    fn links_lead_to_files_and_sections_that_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let pages = PAGES.iter().map(|page| format!("src/guide/{}.md", page.name));
        let others = ["README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md"];
        for file in pages.chain(others.map(String::from)).map(|file| root.join(file)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (place, _) in text.match_indices('[') {
                let Some((_, target, _)) = link(&text[place..]) else { continue };
                // The last one is a page of GitHub's, relative to the README on its site.
                if target.starts_with("https://") || target == "../../releases/latest" {
                    continue;
                }
                let (name, section) = target.split_once('#').unwrap_or((target, ""));
                let linked = match name {
                    "" => file.clone(),
                    name => file.parent().unwrap().join(name),
                };
                assert!(linked.exists(), "{}: {target}", file.display());
                let linked = std::fs::read_to_string(linked).unwrap_or_default();
                let mut titles = linked.lines().filter(|line| line.starts_with('#'));
                let found = section.is_empty() || titles.any(|title| anchor(title) == section);
                assert!(found, "{}: {target}", file.display());
            }
        }
    }

    #[test]
    fn paragraphs_lists_and_tables_are_wrapped() {
        let text = "# A `b` title\n\nSome words that are\nlong, see [this](ready.md).\n\n\
                    - one two three four\n  five\n- six\n\n| a | b |\n|---|---|\n\
                    | `x \\| y` | one two three four five |\n";
        assert_eq!(
            render(text, 24, false),
            "A b title\n\nSome words that are\nlong, see this (hotrun\nhelp ready).\n\n\
             - one two three four\n  five\n- six\n\na      b\nx | y  one two three\n       four five\n"
        );
    }

    #[test]
    fn code_keeps_its_lines_and_its_marks() {
        let text = "Text:\n\n```sh\na **b** # [c](d)\n\n  e `f`\n```\n";
        assert_eq!(render(text, 20, false), "Text:\n\n    a **b** # [c](d)\n\n      e `f`\n");
    }

    #[test]
    fn colours_end_with_the_line() {
        assert_eq!(
            render("# T\n\na `b c` d\n", 80, true),
            "\u{1b}[1mT\u{1b}[0m\n\na \u{1b}[36mb c\u{1b}[0m d\n"
        );
    }
}
