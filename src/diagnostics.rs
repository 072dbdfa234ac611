//! What a failed build reports: how many errors and warnings, and where the first error is.
//!
//! Compilers and interpreters print them in a few shapes that have stayed the same for decades; what
//! matches none of these is not counted.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;

use crate::event::lossy_path;

/// Maximum size of the output that is searched, in bytes: the first error comes early.
const MAX_SEARCHED: usize = 1 << 20;

/// The errors and warnings of one build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Diagnostics {
    /// How many errors; 0 where the tool prints none that is recognised.
    pub errors: usize,
    /// How many warnings.
    pub warnings: usize,
    /// Where the first error is.
    pub first: Option<Place>,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Place {
    /// The file, as the tool has named it.
    #[serde(serialize_with = "lossy_path")]
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, where the tool names one.
    pub column: Option<u32>,
}

impl Place {
    /// `src/main.rs:14:45`, relative to `base`.
    pub(crate) fn relative(&self, base: &Path) -> String {
        let file = self.file.strip_prefix(base).unwrap_or(&self.file);
        let file = file.strip_prefix(".").unwrap_or(file);
        let column = self.column.map(|column| format!(":{column}")).unwrap_or_default();
        format!("{}:{}{column}", file.display(), self.line)
    }
}

impl fmt::Display for Diagnostics {
    /// `2 errors, 1 warning`; nothing where there is no error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        if self.errors > 0 {
            write!(f, "{} error{}", self.errors, plural(self.errors))?;
        }
        if self.errors > 0 && self.warnings > 0 {
            write!(f, ", {} warning{}", self.warnings, plural(self.warnings))?;
        }
        Ok(())
    }
}

/// A pattern with the groups `file`, `line` and perhaps `col` and `kind`.
fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

/// `file:line:col: error: …` (cc, javac, Go, Zig, Elixir, `ruby -c`, Gradle), `file(line,col):
/// error …` (tsc, C#), `[ERROR] file:[line,col] …` (Maven). A column and the kind may be missing.
static ON_ONE_LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(concat!(
        r"^(?:\[(?:ERROR|error)\]\s+|e:\s+(?:file://)?|\*\* \(\w+\)\s+|vet:\s+|(?:ruby|[^\s:]+\.rb):\s+)?",
        r"(?P<file>(?:[A-Za-z]:)?[^\s:()\[\]'\x22][^:()\[\]\x22]*?\.[A-Za-z0-9_+-]+)",
        r"(?::(?P<line>[0-9]+)(?::(?P<col>[0-9]+)(?:[-:][0-9]+)*:?|:)|",
        r"\((?P<line2>[0-9]+),(?P<col2>[0-9]+)\):?|:\[(?P<line3>[0-9]+),(?P<col3>[0-9]+)\])",
        r"(?:\s+-)?\s+(?:fatal\s+)?(?P<kind>(?i:error|warning|note|info|help|remark))?",
    ))
});
/// The line below `error: …` or `error[E0425]: …` of rustc, and what copies it.
static ARROW: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(r"^\s*(?:-->|╭─\[|┌─)\s*(?P<file>[^\s:]\S*?):(?P<line>\d+)(?::(?P<col>\d+))?")
});
/// `error: …`, `error[E0425]: …`, `warning: …`, `ERROR in …`, `✘ [ERROR] …`.
static HEADING: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(concat!(
        r"^(?:[✘▲]\s+\[(?P<kind>ERROR|WARNING)\]|",
        r"(?P<word>(?i:error|warning))(?:\[[A-Z]+[0-9]+\])?(?::|\s+in\b))",
    ))
});
/// `File "app.py", line 3` of Python.
static PYTHON: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r#"^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)"#));
/// `SyntaxError: …` and the like at the beginning of a line: of Python, and of Node below an
/// excerpt.
static EXCEPTION: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^(?:\w+\.)*\w*(?:Error|Exception)(?:\s\[\w+\])?: "));
/// `PHP Parse error: … in index.php on line 3`.
static PHP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(r"(?P<kind>(?i:error|warning)): .* in (?P<file>\S+) on line (?P<line>\d+)")
});
/// `file.js:3` alone on a line: Node, above the excerpt of a syntax error; esbuild, below its heading.
static BARE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(r"^\s*(?:file://)?(?P<file>[^\s:()]+\.[A-Za-z0-9]+):(?P<line>\d+)(?::(?P<col>\d+))?:?$")
});

/// What the lines so far have shown.
#[derive(Default)]
struct Reader {
    all: Diagnostics,
    /// Errors and warnings that were counted, with their whole lines: some tools repeat them.
    seen: HashSet<String>,
    /// A heading that is counted with the place on one of the next lines, or without one.
    heading: Option<(Severity, String)>,
    /// A place without a verdict, for an exception that is named below it.
    above: Option<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

/// The diagnostics in what a tool has printed for people, without its colours.
pub(crate) fn of_text(text: &str) -> Diagnostics {
    let mut end = text.len().min(MAX_SEARCHED);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut reader = Reader::default();
    for line in text[..end].lines() {
        // A progress bar, which the line has replaced on the terminal, stands before it.
        reader.read(line.trim_end().rsplit('\r').next().unwrap_or_default());
    }
    reader.count_heading(None);
    reader.all
}

impl Reader {
    fn read(&mut self, line: &str) {
        if let Some((place, severity)) = on_one_line(line).or_else(|| found(&PHP, line)) {
            self.count_heading(None);
            self.count(severity, line, Some(place));
        } else if let Some((place, _)) = found(&ARROW, line).or_else(|| found(&BARE, line)) {
            if self.heading.is_some() {
                self.count_heading(Some(place));
            } else {
                self.above = Some(place);
            }
        } else if let Some((place, _)) = found(&PYTHON, line) {
            self.above = Some(place);
        } else if matches(&EXCEPTION, line) {
            let place = self.above.take();
            self.count(Some(Severity::Error), line, place);
        } else if let Some(severity) = heading(line) {
            self.count_heading(None);
            self.heading = Some((severity, line.to_owned()));
        }
    }

    /// Counts the last heading. The same words at another place are another error.
    fn count_heading(&mut self, place: Option<Place>) {
        if let Some((severity, line)) = self.heading.take() {
            self.count(Some(severity), &format!("{line} {place:?}"), place);
        }
    }

    fn count(&mut self, severity: Option<Severity>, line: &str, place: Option<Place>) {
        let Some(severity) = severity else { return };
        if !self.seen.insert(line.trim_start().to_owned()) {
            return;
        }
        match severity {
            Severity::Error => {
                self.all.errors += 1;
                if self.all.first.is_none() {
                    self.all.first = place;
                }
            }
            Severity::Warning => self.all.warnings += 1,
        }
    }
}

/// A place at the beginning of a line, and what it is. Without a word for it, as from Go, it is an
/// error.
fn on_one_line(line: &str) -> Option<(Place, Option<Severity>)> {
    // `# command-line-arguments` names a package.
    if line.starts_with('#') {
        return None;
    }
    found(&ON_ONE_LINE, line)
}

fn found(pattern: &LazyLock<Option<Regex>>, line: &str) -> Option<(Place, Option<Severity>)> {
    let found = pattern.as_ref()?.captures(line)?;
    let number = |names: [&str; 3]| {
        let group = names.iter().find_map(|name| found.name(name))?;
        group.as_str().parse::<u32>().ok()
    };
    let place = Place {
        file: PathBuf::from(found.name("file")?.as_str()),
        line: number(["line", "line2", "line3"])?,
        column: number(["col", "col2", "col3"]),
    };
    let severity = match found.name("kind").map(|kind| kind.as_str().to_ascii_lowercase()) {
        None => Some(Severity::Error),
        Some(kind) => severity(&kind),
    };
    Some((place, severity))
}

fn severity(kind: &str) -> Option<Severity> {
    match kind {
        "error" => Some(Severity::Error),
        "warning" => Some(Severity::Warning),
        _ => None,
    }
}

fn matches(pattern: &LazyLock<Option<Regex>>, line: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(line))
}

/// A line that only says that there is an error. Cargo's last lines say it again.
fn heading(line: &str) -> Option<Severity> {
    let found = HEADING.as_ref()?.captures(line)?;
    let kind = found.name("kind").or_else(|| found.name("word"))?;
    let severity = severity(&kind.as_str().to_ascii_lowercase())?;
    let repeats: &[&str] = match severity {
        Severity::Error => &[
            "could not compile",
            "aborting due to",
            "build failed",
            "previous error",
            "the following command",
            "Recipe ",
        ],
        Severity::Warning => &[" generated ", "warnings emitted", "warning emitted"],
    };
    (!repeats.iter().any(|words| line.contains(words))).then_some(severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `2 errors, 1 warning · file:line:col`.
    fn summary(text: &str) -> String {
        let all = of_text(text);
        let place =
            all.first.as_ref().map(|place| format!(" · {}", place.relative(Path::new("/p"))));
        format!("{all}{}", place.unwrap_or_default())
    }

    #[test]
    fn the_shapes_of_compilers_and_interpreters_are_counted() {
        for (text, expected) in [
            (
                "# example.com/app\n./main.go:7:2: undefined: x\n./main.go:9:5: y declared and not used\n",
                "2 errors · main.go:7:2",
            ),
            ("# example.com/app\nvet: ./main.go:7:2: undefined: x\n", "1 error · main.go:7:2"),
            (
                "main.c: In function 'main':\nmain.c:4:3: error: 'x' undeclared\nmain.c:5:1: warning: control reaches end\nmain.c:4:3: note: each once\nmake: *** [Makefile:2: app] Error 1\n",
                "1 error, 1 warning · main.c:4:3",
            ),
            (
                "error[E0425]: cannot find value `greet` in this scope\n  --> src/main.rs:14:45\n   |\nwarning: unused\n --> src/a.rs:1:1\n\nerror: aborting due to 1 previous error; 1 warning emitted\nerror: could not compile `hello` (bin \"hello\") due to 1 previous error\n",
                "1 error, 1 warning · src/main.rs:14:45",
            ),
            ("src/app.ts(3,5): error TS2304: Cannot find name 'x'.\n", "1 error · src/app.ts:3:5"),
            ("src/app.ts:3:5 - error TS2304: Cannot find name 'x'.\n", "1 error · src/app.ts:3:5"),
            (
                "✘ [ERROR] Expected \";\" but found \"x\"\n\n    src/a.ts:1:6:\n      1 │ let  x\n",
                "1 error · src/a.ts:1:6",
            ),
            (
                "/p/app.js:3\nlet = ;\n      ^\n\nSyntaxError: Unexpected token ';'\n    at wrap (node:internal:1:2)\n",
                "1 error · app.js:3",
            ),
            (
                "  File \"app.py\", line 3\n    def (\n        ^\nSyntaxError: invalid syntax\n",
                "1 error · app.py:3",
            ),
            ("app.rb:3: syntax error, unexpected end\n", "1 error · app.rb:3"),
            ("app.rb: app.rb:3: syntax error found (SyntaxError)\n", "1 error · app.rb:3"),
            (
                "PHP Parse error:  syntax error, unexpected '}' in /p/index.php on line 4\n",
                "1 error · index.php:4",
            ),
            (
                "Main.java:5: error: ';' expected\n  int x\n       ^\n1 error\n",
                "1 error · Main.java:5",
            ),
            (
                "[ERROR] /p/src/A.java:[5,9] ';' expected\n[ERROR] /p/src/A.java:[5,9] ';' expected\n",
                "1 error · src/A.java:5:9",
            ),
            (
                "src/main.zig:4:9: error: use of undeclared identifier 'x'\n",
                "1 error · src/main.zig:4:9",
            ),
            ("** (SyntaxError) lib/app.ex:3:1: unexpected token\n", "1 error · lib/app.ex:3:1"),
            (
                "Program.cs(3,5): error CS0103: The name 'x' does not exist [/p/a.csproj]\n",
                "1 error · Program.cs:3:5",
            ),
            ("e: file:///p/src/Main.kt:3:5 Unresolved reference: x\n", "1 error · src/Main.kt:3:5"),
            (
                "    Building [=>  ] 0/1: hello(bin)\rerror: unclosed delimiter\r\n  --> src/main.rs:26:3\r\n",
                "1 error · src/main.rs:26:3",
            ),
            (
                "error[E0425]: cannot find value `x`\n  --> src/a.rs:1:5\nerror[E0425]: cannot find value `x`\n  --> src/a.rs:9:5\n",
                "2 errors · src/a.rs:1:5",
            ),
            (
                "[INFO] ---\n[ERROR] COMPILATION ERROR : \n[INFO] ---\n[ERROR] /p/A.java:[3,9] ';' expected\n[INFO] 1 error\n[ERROR] Failed to execute goal org.x:compile: Compilation failure\n[ERROR] /p/A.java:[3,9] ';' expected\n[ERROR] -> [Help 1]\n[ERROR] To see the full stack trace of the errors\n",
                "1 error · A.java:3:9",
            ),
            (
                "src/main.zig:4:9: error: expected type\nerror: the following command failed with 1 compilation errors:\n",
                "1 error · src/main.zig:4:9",
            ),
            // What names no place, or is no diagnostic.
            ("make: *** No rule to make target 'app'.  Stop.\n", ""),
            ("listening on 127.0.0.1:3000\n12:30:05 INFO started\nhttp://localhost:80/ ok\n", ""),
            ("main.go:3 is fine\n", ""),
            ("go: downloading example.com/x v1.2.3\n", ""),
            ("", ""),
        ] {
            assert_eq!(summary(text), expected, "{text}");
        }
    }

    #[test]
    fn fuzz_any_text_is_counted_without_a_panic() {
        let corpus =
            ["a.go:1:2: x\n", "error[E1]: a\n --> b.rs:1:99999999999\n", "File \"\", line 1"];
        crate::fuzz::hammer(&corpus, &[":", "error:", "(1,2): ", "\n", "é"], |text| {
            of_text(&String::from_utf8_lossy(text));
        });
    }
}
