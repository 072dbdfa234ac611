//! Files that name commands: `Procfile`, `justfile`, `mise.toml`, `Taskfile.yml`, a makefile.

use super::{Guess, Outcome, Place, first_known, needing, one_of, unable};

/// Names of tasks that start a program, the best first.
const RUNS: [&str; 6] = ["dev", "run", "serve", "start", "server", "watch"];

pub(super) fn guess(place: &Place<'_>) -> Outcome {
    first_known(place, &[procfile, just, mise, taskfile, make, compose])
}

fn procfile(place: &Place<'_>) -> Outcome {
    let Some(file) = place.first(&["Procfile.dev", "Procfile"]) else { return Outcome::Unknown };
    let text = place.read(file);
    let processes: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, command)| (name.trim(), command.trim()))
        .filter(|(_, command)| !command.is_empty())
        .collect();
    let guess = |(name, command): (&str, &str)| {
        let guess = Guess::new("Procfile", format!("{file}, process \"{name}\"")).runs(command);
        let is_set = std::env::var_os("PORT").is_some() || place.read(".env").contains("PORT=");
        let wants_port = command.contains("$PORT") || command.contains("${PORT");
        // foreman's default.
        if wants_port && !is_set { guess.set("env.PORT", "5000") } else { guess }
    };
    let web = processes.iter().find(|(name, _)| *name == "web").copied();
    let Some(web) = web else {
        return one_of(processes.iter().copied().map(guess).collect(), || Outcome::Unknown);
    };
    let names = processes.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.filter(|name| *name != "web").collect();
    if names.is_empty() {
        return guess(web).found();
    }
    guess(web).note(format!("not started from {file}: {}", names.join(", "))).found()
}

/// The best of these tasks, run by the command that takes its name.
fn task<'a>(
    place: &Place<'_>,
    (kind, tool, noun, run): (&str, &str, &str, &str),
    file: &str,
    names: impl Iterator<Item = &'a str>,
) -> Outcome {
    let Some(name) = best(names) else { return Outcome::Unknown };
    needing(place, tool, kind, file, || {
        Guess::new(kind, format!("{file}, {noun} \"{name}\"")).runs(format!("{run} {name}"))
    })
}

/// The best of the tasks that a file names.
fn best<'a>(tasks: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let tasks: Vec<&str> = tasks.collect();
    RUNS.into_iter().find(|name| tasks.contains(name))
}

fn just(place: &Place<'_>) -> Outcome {
    let Some(file) = place.first(&["justfile", "Justfile", ".justfile"]) else {
        return Outcome::Unknown;
    };
    let text = place.read(file);
    let recipes = text
        .lines()
        .filter(|line| !line.starts_with([' ', '\t', '#']) && !line.contains(":="))
        // A recipe that is not printed.
        .map(|line| line.trim_start_matches('@'))
        .filter_map(|line| {
            let (recipe, _) = line.split_once(':')?;
            let name = recipe.split(' ').next()?;
            // `run = "a:b"`
            (!recipe.starts_with(&format!("{name} ="))).then_some(name)
        });
    task(place, ("just", "just", "recipe", "just"), file, recipes)
}

fn mise(place: &Place<'_>) -> Outcome {
    let Some(file) = place.first(&["mise.toml", ".mise.toml"]) else { return Outcome::Unknown };
    let table: toml::Table = place.read(file).parse().unwrap_or_default();
    let tasks = table.get("tasks").and_then(toml::Value::as_table);
    let names = tasks.into_iter().flat_map(toml::Table::keys).map(String::as_str);
    task(place, ("mise", "mise", "task", "mise run"), file, names)
}

fn taskfile(place: &Place<'_>) -> Outcome {
    let names = ["Taskfile.yml", "Taskfile.yaml", "taskfile.yml", "taskfile.yaml"];
    let Some(file) = place.first(&names) else { return Outcome::Unknown };
    let text = place.read(file);
    let tasks = text
        .lines()
        .skip_while(|line| line.trim_end() != "tasks:")
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.trim().strip_suffix(':'));
    task(place, ("Task", "task", "task", "task"), file, tasks)
}

fn make(place: &Place<'_>) -> Outcome {
    let Some(file) = place.first(&["GNUmakefile", "makefile", "Makefile"]) else {
        return Outcome::Unknown;
    };
    let text = place.read(file);
    let rules: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(target, rest)| {
            let is_variable = rest.starts_with('=') || target.contains('=');
            !is_variable && !target.starts_with(['\t', '.', '#', ' '])
        })
        .collect();
    let targets: Vec<&str> =
        rules.iter().flat_map(|(targets, _)| targets.split_whitespace()).collect();
    // A target that starts hotrun would recurse.
    let starts_hotrun = |name: &str| {
        let recipe = text.lines().skip_while(|line| !line.starts_with(&format!("{name}:")));
        let mut recipe = recipe.skip(1).take_while(|line| line.starts_with('\t'));
        recipe.any(|line| line.contains("hotrun"))
    };
    let run = best(targets.iter().copied().filter(|name| !starts_hotrun(name)));
    // `all: app run` would run the program as part of the build.
    let includes = |target: &str, wanted: &str| {
        let (mut left, mut seen) = (vec![target], vec![target]);
        while let Some(target) = left.pop() {
            let own =
                rules.iter().filter(|(names, _)| names.split_whitespace().any(|one| one == target));
            let needed = own.flat_map(|(_, rest)| {
                rest.split([';', '#']).next().unwrap_or_default().split_whitespace()
            });
            for one in needed.filter(|one| !seen.contains(one)).collect::<Vec<_>>() {
                seen.push(one);
                left.push(one);
            }
        }
        seen.contains(&wanted)
    };
    let build = ["build", "all", "compile"]
        .into_iter()
        .find(|name| targets.contains(name) && !run.is_some_and(|run| includes(name, run)));
    match (run, build) {
        (Some(run), build) => needing(place, "make", "make", file, || {
            let guess = Guess::new("make", format!("{file}, target \"{run}\""));
            let guess = match build {
                Some(build) => guess.builds(format!("make {build}")),
                None => guess,
            };
            guess.runs(format!("make {run}"))
        }),
        (None, _) if targets.is_empty() => Outcome::Unknown,
        (None, _) => unable(
            format!("no target of {file} is named run, serve, start or dev"),
            "name the commands in hotrun.toml, for example:\n\
             [build]\ncmd = \"make\"\nentrypoint = \"./app\"",
        ),
    }
}

fn compose(place: &Place<'_>) -> Outcome {
    let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
    match place.first(&names) {
        Some(file) => unable(
            format!(
                "{file} describes containers; hotrun builds and runs one program on this machine"
            ),
            "for containers: `docker compose watch`; for a program: `hotrun COMMAND`",
        ),
        None => Outcome::Unknown,
    }
}
