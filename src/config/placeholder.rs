//! `{}` in the command of a rule: the name of the changed file, as one word for the shell, whatever
//! it is. It stands for a variable, and never becomes text that a shell reads.

/// The variable that holds the name.
const VARIABLE: &str = "hotrun_file";

/// Where in the text of a command a character stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between quotes, or in a substitution; so many parentheses are open.
    Plain(usize),
    /// In double quotes that begin here, and hold the name or not.
    Quoted { begin: usize, has_name: bool },
}

/// The command with the variable in the place of each `{}`; as it is where there is none. The
/// shell gets the name as its first argument.
///
/// # Errors
///
/// `{}` stands where it cannot be one word, or where another shell would read it again.
pub(super) fn replace(cmd: &str) -> Result<Option<String>, &'static str> {
    const SINGLE: &str = "{} stands in single quotes; it is one word without them, and for a shell \
                          within the shell: sh -c 'cat \"$1\"' sh {}";
    const AMONG: &str = "{} stands in quotes with other words, which a second shell would read \
                         again; it is one word without quotes, and for a second shell: \
                         sh -c 'cat \"$1\"' sh {}";
    const BACKTICKS: &str = "{} stands in backticks; use $(…)";
    const DOCUMENT: &str = "{} stands in a here-document; use an argument";
    if !cmd.contains("{}") {
        return Ok(None);
    }
    let mut text = format!("{VARIABLE}=$1; shift; ");
    let mut places = vec![Place::Plain(0)];
    let mut has_document = false;
    let mut rest = cmd;
    while let Some(c) = rest.chars().next() {
        let at = cmd.len() - rest.len();
        let place = places.last().copied().unwrap_or(Place::Plain(0));
        let mut taken = c.len_utf8();
        match (place, c) {
            (_, '{') if rest.starts_with("{}") => {
                if has_document {
                    return Err(DOCUMENT);
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
            (_, '`') => {
                let end = rest[1..].find('`').map_or(rest.len(), |end| end + 2);
                if rest[..end].contains("{}") {
                    return Err(BACKTICKS);
                }
                taken = end;
            }
            (_, '$') if rest.starts_with("$(") => {
                places.push(Place::Plain(0));
                taken = 2;
            }
            (Place::Quoted { begin, has_name }, '"') => {
                if has_name && cmd[begin..at].contains(char::is_whitespace) {
                    return Err(AMONG);
                }
                places.pop();
            }
            (Place::Plain(_), '"') => {
                places.push(Place::Quoted { begin: at + 1, has_name: false });
            }
            (Place::Plain(_), '\'') => {
                let end = rest[1..].find('\'').map_or(rest.len(), |end| end + 2);
                if rest[..end].contains("{}") {
                    return Err(SINGLE);
                }
                taken = end;
            }
            (Place::Plain(_), '<') if rest.starts_with("<<") && !rest.starts_with("<<<") => {
                has_document |= rest.contains('\n');
                taken = 2;
            }
            (Place::Plain(open), '(') => {
                places.pop();
                places.push(Place::Plain(open + 1));
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
    Ok(Some(text))
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
            "echo `cat {}`",
            "cat <<EOF\n{}\nEOF",
        ] {
            assert!(replace(cmd).is_err(), "{cmd}");
        }
        assert_eq!(replace("cat $1 {a,b}"), Ok(None));
    }

    #[test]
    fn fuzz_a_name_is_never_text_for_the_shell() {
        let corpus = ["cat \"{}\" $(echo {}) '{a}' \\{} `x` <<E\n{}\nE", "case {} in a) b;; esac"];
        crate::fuzz::hammer(&corpus, &["{}", "$(", ")", "`", "<<", "((", "${"], |text| {
            let cmd = String::from_utf8_lossy(text);
            if let Ok(Some(text)) = replace(&cmd) {
                let replaced = text.matches("${hotrun_file}").count();
                let left = text.matches("\\{}").count();
                assert_eq!(replaced + left, cmd.matches("{}").count(), "{cmd}");
            }
        });
    }
}
