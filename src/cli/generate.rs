//! What is generated from the command line and the keys: completions for shells, the man page.

use std::io;

use clap::{Arg, Command, CommandFactory, ValueEnum};
use clap_complete::{Shell as Kind, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{Cli, help};
use crate::config::keys::{KEYS, Key};

/// A shell that completions can be generated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The script by which a shell completes hotrun's options, subcommands and keys.
pub(super) fn completions(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let mut command = command();
    command = command.args(Key::recommended().map(option));
    let mut script = Vec::new();
    generate(shell, &mut command, "hotrun", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command line in which each subcommand has the options that it uses, and no other. (The
/// generators list hidden options, too.)
fn command() -> Command {
    let mut command = Cli::command();
    let globals: Vec<Arg> = command.get_arguments().cloned().collect();
    let names: Vec<String> =
        command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    command = command.mut_args(|arg| arg.global(false));
    for name in names {
        let own = globals.iter().filter(|arg| arg.is_global_set() && help::is_meant(&name, arg));
        let own: Vec<Arg> = own.map(|arg| arg.clone().global(false)).collect();
        command = command.mut_subcommand(&name, |sub| sub.args(own));
    }
    command
}

/// A key as the option that it is.
fn option(key: &'static Key) -> Arg {
    let arg = Arg::new(key.name).long(key.name).value_name("VALUE").help(key.about);
    match key.kind.words() {
        [] => arg,
        words => arg.value_parser(words.to_vec()),
    }
}

/// The man page, as roff.
pub(super) fn man() -> io::Result<String> {
    let man = Man::new(command());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let usage = [bold("hotrun"), roman(" [OPTIONS] ["), italic("COMMAND"), roman("...]")];
    roff.text(usage);
    roff.control("SH", ["COMMANDS"]);
    for sub in command().get_subcommands() {
        roff.control("TP", []);
        roff.text([bold(sub.get_name())]);
        roff.text([roman(sub.get_about().map(ToString::to_string).unwrap_or_default())]);
        let own = sub.get_arguments().filter(|arg| arg.get_help_heading().is_none());
        for arg in own.filter(|arg| arg.get_long().is_some()) {
            let name = format!("--{}", arg.get_long().unwrap_or_default());
            let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(name)]);
            roff.text([roman(about)]);
            roff.control("RE", []);
        }
    }
    roff.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    for (heading, text) in help::sections() {
        roff.control("SH", [heading.to_uppercase().as_str()]);
        roff.control("nf", []);
        for line in text.lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
    }
    roff.control("SH", ["CONFIGURATION"]);
    roff.text([roman("Keys of hotrun.toml. Each is an option, too: --build.cmd \"make app\".")]);
    for key in KEYS.iter().filter(|key| key.is_recommended()) {
        roff.control("TP", []);
        roff.text([bold(key.name), roman(" = "), roman(key.default)]);
        roff.text([roman(key.about)]);
    }
    roff.to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_know_every_key_and_only_options_that_a_subcommand_heeds() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for key in Key::recommended() {
                assert!(script.contains(key.name), "{shell:?} {}", key.name);
            }
            assert!(script.contains("rollback") && script.contains("handover"), "{shell:?}");
        }
        let command = command();
        let man = command.find_subcommand("man").unwrap();
        let names: Vec<&str> = man.get_arguments().map(|arg| arg.get_id().as_str()).collect();
        assert_eq!(names, ["color", "help"]);
    }

    #[test]
    fn the_man_page_has_every_subcommand_option_and_key() {
        let page = man().unwrap();
        let plain = page.replace('\\', "");
        for sub in Cli::command().get_subcommands() {
            assert!(plain.contains(sub.get_name()), "{}", sub.get_name());
        }
        for arg in Cli::command().get_arguments().filter_map(Arg::get_long) {
            assert!(plain.contains(&format!("--{arg}")), "{arg}");
        }
        for key in Key::recommended() {
            assert!(plain.contains(key.name), "{}", key.name);
        }
        assert!(!page.contains('\u{1b}'), "no colours");
    }
}
