//! Files that name commands: `Procfile`, `justfile`, `mise.toml`, `Taskfile.yml`, a makefile.

use super::{Guess, Outcome, Place, first_known, needing, not_installed, one_of, unable};

/// Names of tasks that start a program, the best first.
const RUNS: [&str; 6] = ["dev", "run", "serve", "start", "server", "watch"];

/// Maximum length of a line of a makefile that is read, in bytes.
const MAX_LINE: usize = 4096;

pub(super) fn guess(place: &Place<'_>) -> Outcome {
    first_known(place, &[procfile, just, mise, taskfile, make, rake, compose])
}

/// The task by which a project is tested.
pub(super) fn test_command(place: &Place<'_>) -> Option<String> {
    let files: [(&str, &[&str]); 3] = [
        ("make test", &["GNUmakefile", "makefile", "Makefile"]),
        ("just test", &["justfile", "Justfile", ".justfile"]),
        ("task test", &["Taskfile.yml", "Taskfile.yaml"]),
    ];
    let has_test = |files: &[&str]| {
        let text = place.read(place.first(files).unwrap_or_default());
        let is_taskfile = files.contains(&"Taskfile.yml");
        // Only a Taskfile indents its tasks; elsewhere an indented line belongs to a recipe.
        text.lines().any(|line| {
            let line = if is_taskfile { line.trim_start() } else { line };
            line.starts_with("test:")
        })
    };
    let found =
        files.into_iter().find(|(_, files)| place.first(files).is_some() && has_test(files));
    found.map(|(command, _)| command.to_owned())
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
    // A program may be called `server`.
    let made = linked(&text);
    let is_run = |name: &&str| !starts_hotrun(name) && !made.iter().any(|one| one == name);
    let run = best(targets.iter().copied().filter(is_run));
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
    let usual = ["build", "all", "compile"]
        .into_iter()
        .find(|name| targets.contains(name) && !run.is_some_and(|run| includes(name, run)));
    let build =
        usual.map(str::to_owned).or_else(|| run.and_then(|run| build_of(&text, &rules, run)));
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
        (None, _) => made_programs(place, file, made),
    }
}

/// The programs that a makefile links, where no target runs one.
fn made_programs(place: &Place<'_>, file: &str, made: Vec<String>) -> Outcome {
    let each = made.into_iter().map(|name| {
        let path = if name.contains('/') { name.clone() } else { format!("./{name}") };
        Guess::new("make", format!("{file}, target \"{name}\""))
            .builds(format!("make {name}"))
            .runs(path)
    });
    let all: Vec<Guess> = each.collect();
    if !all.is_empty() && !place.finds("make") {
        return not_installed("make", file, "make");
    }
    one_of(all, || {
        unable(
            format!("no target of {file} is named run, serve, start or dev"),
            "name the commands in hotrun.toml, for example:\n\
             [build]\ncmd = \"make\"\nentrypoint = \"./app\"",
        )
    })
}

/// The targets of a makefile whose recipes call a linker (`-o app` or `-o $@`); of several, those
/// that `all` names.
fn linked(text: &str) -> Vec<String> {
    let variable = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim_end_matches([':', '?', '+']).trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_variable = !name.is_empty() && name.chars().all(is_name);
        is_variable.then(|| (name.to_owned(), value.trim().to_owned()))
    };
    let variables: Vec<(String, String)> =
        text.lines().filter_map(variable).take(super::MAX_FILES).collect();
    let expand = |line: &str| {
        let known = variables.iter().rev();
        known.fold(line.to_owned(), |line, (name, value)| {
            if line.len() > MAX_LINE || !line.contains('$') {
                return line;
            }
            line.replace(&format!("$({name})"), value).replace(&format!("${{{name}}}"), value)
        })
    };
    let mut found: Vec<String> = Vec::new();
    let (mut targets, mut wanted) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| line.len() <= MAX_LINE) {
        if !line.starts_with('\t') {
            let Some((names, needed)) = line.split_once(':').filter(|_| variable(line).is_none())
            else {
                continue;
            };
            let words = |text: &str| -> Vec<String> {
                expand(text).split_whitespace().map(str::to_owned).collect()
            };
            targets = words(names);
            if names.trim() == "all" {
                wanted = words(needed);
            }
            continue;
        }
        let line = expand(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = words.iter().position(|word| *word == "-o").and_then(|at| words.get(at + 1));
        let Some(output) = output.filter(|_| !words.contains(&"-c") && !words.contains(&"-shared"))
        else {
            continue;
        };
        let made = targets.iter().filter(|target| *output == "$@" || output == target);
        found.extend(made.cloned());
    }
    let is_program = |name: &String| {
        let others = [".o", ".so", ".a", ".dylib", ".dll", ".wasm", ".js", ".html"];
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
        !others.iter().any(|end| name.ends_with(end))
            && !name.contains("test")
            && !name.contains("..")
            && name.chars().all(is_plain)
    };
    found.retain(is_program);
    found.sort();
    found.dedup();
    if found.iter().any(|name| wanted.contains(name)) {
        found.retain(|name| wanted.contains(name));
    }
    found
}

/// The targets of a makefile that make what another one runs: what it depends on, or the file that
/// its recipe starts. They are made first, so that an error in them leaves the program alone.
fn build_of(text: &str, rules: &[(&str, &str)], run: &str) -> Option<String> {
    let is_target = |name: &&str| {
        let mut all = rules.iter().flat_map(|(targets, _)| targets.split_whitespace());
        all.any(|target| target == *name) && !name.contains(['$', '%'])
    };
    let mut own = rules.iter().filter(|(names, _)| names.split_whitespace().any(|one| one == run));
    let (_, needed) = own.next()?;
    let needed: Vec<&str> = needed.split([';', '#']).next()?.split_whitespace().collect();
    // `run: clean app` rebuilds everything: that is left to make.
    let is_odd = |name: &&str| name.contains("clean") || name.contains("docker") || *name == "|";
    if needed.iter().any(is_odd) {
        return None;
    }
    let recipe = text.lines().skip_while(|line| !line.starts_with(&format!("{run}:"))).skip(1);
    let recipe: Vec<&str> = recipe.take_while(|line| line.starts_with('\t')).collect();
    let needed: Vec<&str> = needed.into_iter().filter(is_target).collect();
    let targets = if needed.is_empty() {
        let words = recipe.iter().flat_map(|line| line.split_whitespace());
        let files = words.filter_map(|word| word.trim_start_matches('@').strip_prefix("./"));
        files.filter(is_target).take(1).collect()
    } else {
        needed
    };
    (!targets.is_empty() && !recipe.is_empty()).then(|| targets.join(" "))
}

fn rake(place: &Place<'_>) -> Outcome {
    let Some(file) = place.first(&["Rakefile", "rakefile", "Rakefile.rb"]) else {
        return Outcome::Unknown;
    };
    let text = place.read(file);
    // Tasks of a namespace are indented.
    let tasks = text.lines().filter_map(|line| {
        let name = line.strip_prefix("task")?.trim_start_matches([' ', '(', ':', '"', '\'']);
        name.split([':', '"', '\'', ' ', ',', ')', '=']).next()
    });
    let is_bundled = place.has("Gemfile");
    let (tool, run) = if is_bundled { ("bundle", "bundle exec rake") } else { ("rake", "rake") };
    task(place, ("Rake", tool, "task", run), file, tasks)
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
