//! `{}` in the command of a rule: the name of the changed file, as one word for the shell, whatever
//! it is. A variable replaces it, so it never becomes text that a shell parses.

/// The variable that holds the name.
const VARIABLE: &str = "hotrun_file";

/// The context of a character in the text of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Outside of quotes, or in a substitution, with this number of open parentheses.
    Plain(usize),
    /// In double quotes that begin here, and contain the name or not.
    Quoted { begin: usize, has_name: bool },
}

/// Why a command cannot be run for each file, and what to write instead.
pub(super) type Refusal = (&'static str, &'static str);

const SINGLE: Refusal = (
    "{} is inside single quotes",
    "remove the quotes: it is always one word; for another shell: sh -c 'cat \"$1\"' sh {}; \
     for literal braces: \\{}",
);
const AMONG: Refusal = (
    "{} is inside quotes with more than a path or an option",
    "remove the quotes: it is always one word; for another shell: sh -c 'cat \"$1\"' sh {}",
);
const AGAIN: Refusal = (
    "another shell reads what follows eval, ssh, su or -c, and would run a file's name as a \
     command",
    "pass it as an argument: sh -c 'cat \"$1\"' sh {}",
);
const BACKTICKS: Refusal = ("{} is inside backticks", "use $(…)");
const DOCUMENT: Refusal = ("{} is inside a here-document", "pass it as an argument");
const ARITHMETIC: Refusal = ("{} is inside an arithmetic expansion", "pass it as an argument");
const OPEN: Refusal = ("a quote or a substitution is not closed", "close it");

/// Commands whose arguments another shell reads.
const READ_AGAIN: [&str; 3] = ["eval", "ssh", "su"];

/// The command with the variable in the place of each `{}`; `None` where there is none. The shell
/// gets the name as its first argument.
///
/// # Errors
///
/// `{}` stands where it cannot be one word for this shell, or where another shell is known to read
/// it again. (What other programs do with it is up to them.)
pub(super) fn replace(cmd: &str) -> Result<Option<String>, Refusal> {
    if !cmd.contains("{}") {
        return Ok(None);
    }
    let mut text = format!("{VARIABLE}=$1; shift; ");
    let mut places = vec![Place::Plain(0)];
    let mut has_document = false;
    // Where the words of the simple command begin that is being read.
    let mut command = 0;
    let mut rest = cmd;
    while let Some(c) = rest.chars().next() {
        let at = cmd.len() - rest.len();
        let place = places.last().copied().unwrap_or(Place::Plain(0));
        let begins_word = cmd[..at].chars().next_back().is_none_or(|c| " \t\n;|&()".contains(c));
        let mut taken = c.len_utf8();
        match (place, c) {
            (_, '{') if rest.starts_with("{}") => {
                if has_document {
                    return Err(DOCUMENT);
                }
                if is_read_again(&cmd[command..at]) {
                    return Err(AGAIN);
                }
                let quote = match places.last_mut() {
                    Some(Place::Quoted { has_name, .. }) => {
                        *has_name = true;
                        ""
                    }
                    Some(Place::Plain(_)) | None => "\"",
                };
                text.extend([quote, "${", VARIABLE, "}", quote]);
                rest = &rest[2..];
                continue;
            }
            (_, '\\') => taken += rest[1..].chars().next().map_or(0, char::len_utf8),
            (_, '`') => taken = skipped(rest, 1, "`", BACKTICKS)?,
            (_, '$') if rest.starts_with("$((") => taken = skipped(rest, 3, "))", ARITHMETIC)?,
            (_, '$') if rest.starts_with("$(") => {
                places.push(Place::Plain(0));
                taken = 2;
                command = at + taken;
            }
            (Place::Quoted { begin, has_name }, '"') => {
                let is_word = |c: char| c.is_alphanumeric() || "_./=:@,+-{}".contains(c);
                if has_name && !cmd[begin..at].chars().all(is_word) {
                    return Err(AMONG);
                }
                places.pop();
            }
            (Place::Plain(_), '"') => {
                places.push(Place::Quoted { begin: at + 1, has_name: false });
            }
            (Place::Plain(_), '\'') => taken = skipped(rest, 1, "'", SINGLE)?,
            (Place::Plain(_), '#') if begins_word => {
                taken = rest.find('\n').unwrap_or(rest.len());
            }
            (Place::Plain(_), '<') if rest.starts_with("<<<") => taken = 3,
            (Place::Plain(_), '<') if rest.starts_with("<<") => {
                has_document |= rest.contains('\n');
                taken = 2;
            }
            (Place::Plain(_), ';' | '|' | '&' | '\n') => command = at + 1,
            (Place::Plain(open), '(') => {
                places.pop();
                places.push(Place::Plain(open + 1));
                command = at + 1;
            }
            (Place::Plain(0), ')') if places.len() > 1 => drop(places.pop()),
            (Place::Plain(open), ')') => {
                places.pop();
                places.push(Place::Plain(open.saturating_sub(1)));
            }
            (Place::Plain(_) | Place::Quoted { .. }, _) => {}
        }
        text.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    if places.len() > 1 {
        return Err(OPEN);
    }
    Ok(Some(text))
}

/// The length of what goes to this end, and must not contain the name.
fn skipped(text: &str, begin: usize, end: &str, refusal: Refusal) -> Result<usize, Refusal> {
    let length = text[begin..].find(end).map(|at| begin + at + end.len()).ok_or(OPEN)?;
    if text[..length].contains("{}") {
        return Err(refusal);
    }
    Ok(length)
}

/// True behind `eval`, `ssh` or `su`, and right behind `-c`.
fn is_read_again(before: &str) -> bool {
    let words = before.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.last() == Some(&"-c")
        || words.iter().any(|word| READ_AGAIN.contains(&word.rsplit('/').next().unwrap_or(word)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_is_one_word_wherever_it_stands_or_is_refused() {
        let names = ["$(touch pwned).ts", "two words.ts", "a'b\"c`d`;e.ts", "-n", "*", "l\nf"];
        for (cmd, expected) in [
            ("printf '<%s>' {}", "<@>"),
            ("printf '<%s>' \"{}\"", "<@>"),
            ("printf '<%s>' --file={}", "<--file=@>"),
            ("printf '<%s>' \"--file={}\"", "<--file=@>"),
            ("printf '<%s>' $(printf x) {} \"$(printf '%s' {})\"", "<x><@><@>"),
            ("(printf '<%s>' {}); case x in x) printf '<%s>' {};; esac", "<@><@>"),
            ("printf '<%s>' \\\"{}", "<\"@>"),
            ("f() { printf '<%s>' \"$1\" {}; }; f y", "<y><@>"),
            ("sh -c 'printf \"<%s>\" \"$1\"' sh {}", "<@>"),
            ("# a \"quote\nprintf '<%s>' {}\n", "<@>"),
            ("# don't\nprintf '<%s>%s' {} $((1<<2))\n", "<@>4"),
            ("ssh -V 2>/dev/null; printf '<%s>' {}", "<@>"),
            ("printf '<%s>' a#b\"{}\"", "<a#b@>"),
        ] {
            let text = replace(cmd).unwrap().unwrap();
            for name in names {
                let shell = Command::new("/bin/sh").args(["-c", &text, "sh", name]).output();
                let said = String::from_utf8(shell.unwrap().stdout).unwrap();
                assert_eq!(said, expected.replace('@', name), "{cmd} of {name}: {text}");
            }
        }
        for cmd in [
            "sh -c 'cat {}'",
            "sh -c \"cat {}\"",
            "eval \"cat {}\"",
            "ssh host \"wc -l {}\"",
            "ssh host wc -l {}",
            "eval cat {}",
            "sh -c \"cat<{}\"",
            "sh -c \"{}\"",
            "sh -c {}",
            "python3 -c \"print('{}')\"",
            "echo $(( {} ))",
            "echo \"{}",
            "echo $(cat {}",
            "echo `cat {}`",
            "cat <<EOF\n{}\nEOF",
        ] {
            assert!(replace(cmd).is_err(), "{cmd}");
        }
        assert_eq!(replace("cat $1 {a,b}"), Ok(None));
    }

    #[test]
    fn fuzz_a_name_is_never_text_for_the_shell() {
        let corpus = [
            "echo \"{}\" $(echo {}) '{a}' \\{} # x\necho \"a={}\" {}",
            "case {} in a) echo b;; esac; (echo {})",
        ];
        let place = tempfile::tempdir().unwrap();
        let words = ["{}", "$(", ")", "`", "<<", "((", "${", "#", "\"", "'", "eval ", "sh -c "];
        crate::fuzz::hammer(&corpus, &words, |text| {
            let cmd = String::from_utf8_lossy(text).replace('\0', "");
            // No other command is to run here by chance.
            let is_known =
                |word: &str| word.is_empty() || ["echo", "case", "in", "esac"].contains(&word);
            let mut found = cmd.split(|c: char| !c.is_ascii_lowercase() && c != 'é');
            if !found.all(|word| word.len() < 2 || is_known(word)) || cmd.contains('>') {
                return;
            }
            let Ok(Some(text)) = replace(&cmd) else { return };
            let mut shell = Command::new("/bin/sh");
            shell.args([
                "-c",
                &text,
                "sh",
                "$(touch pwned)`touch pwned`;touch pwned;'\"touch pwned",
            ]);
            shell.current_dir(place.path()).stdin(std::process::Stdio::null());
            shell.env("PATH", "/usr/bin:/bin").output().unwrap();
            assert!(!place.path().join("pwned").exists(), "{cmd}");
        });
    }
}
