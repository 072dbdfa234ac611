//! `hotrun check` and `hotrun explain`: the configuration, for a person.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::{Action, Command, Config, Extensions, Program};
use crate::event::{Mode, name_paths, printable};
use crate::filter::{Filter, Reason, Verdict};
use crate::process;
use crate::project::go::Sources;
use crate::project::guess::search;
use crate::project::{self, Kind};
use crate::watch;

mod programs;

/// What `hotrun check` found.
pub(super) struct Checked {
    /// What would be built, run and watched, and where each value comes from.
    pub(super) text: String,
    pub(super) warnings: usize,
}

/// Describes the configuration; `all`: with the values that are defaults.
pub(super) fn check(config: &Config, all: bool) -> Checked {
    let programs = programs::of(config);
    let unreadable = config.only().recipe.env.read().err().map(|error| error.to_string());
    let warnings: Vec<String> = config
        .project
        .warnings
        .iter()
        .cloned()
        .chain(unreadable)
        .chain(programs.iter().filter_map(programs::Program::warning))
        .collect();
    let mut lines = summary(config);
    lines.extend(programs::line(&programs));
    lines.extend(warnings.iter().map(|text| format!("  warning  {}", indented(text))));
    lines.push(String::new());
    lines.extend(settings(config, all));
    Checked { text: lines.join("\n"), warnings: warnings.len() }
}

/// A text of several lines, of which none can pass for a line of hotrun's own.
fn indented(text: &str) -> String {
    text.replace('\n', "\n           ")
}

fn summary(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:>9}  {}", indented(&text)));
    let file = config.project.file.as_deref().map(printable);
    let none = || match &config.only().guess {
        Some(guess) => format!("none; {} project ({})", guess.kind, guess.evidence),
        None => format!("none; {} project", config.only().kind.name()),
    };
    line("config", file.unwrap_or_else(none));
    line("directory", printable(&config.project.directory));
    for (number, stage) in config.only().recipe.build.stages.iter().enumerate() {
        let name = if number == 0 { "build" } else { "" };
        line(name, stage.label.clone());
    }
    if let Some(flags) = ldflags(config) {
        line("", format!("with {flags} (run.debug)"));
    }
    line("run", describe_program(&config.only().recipe.run.program));
    if let Some(launch) = &config.only().recipe.launch {
        let runner = launch.runner.as_ref().map(|runner| {
            let command = process::describe(&Command::Argv(runner.words.clone()));
            format!("{command} ({})", printable(Path::new(&runner.origin)))
        });
        line("runner", runner.unwrap_or_else(|| "none".to_owned()));
        line("env", format!("what {} sets", launch.label));
    }
    for one in &config.only().recipe.listen {
        let name = one.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        line("listen", format!("{}{name}", one.address));
    }
    for (name, text) in proxy(config) {
        line(name, text);
    }
    if config.only().recipe.run.mode == Mode::Handover {
        line("handover", "the new program starts beside the old one, until it is ready".to_owned());
    }
    line(
        "stop",
        format!(
            "{}, then SIGKILL after {:?}",
            config.only().recipe.run.signal,
            config.only().recipe.run.grace
        ),
    );
    for command in &config.only().recipe.post_cmd {
        line("post_cmd", command.clone());
    }
    for rule in &config.only().watch.rules {
        let what = match &rule.action {
            Action::Run { cmd, .. } => cmd.clone(),
            Action::Signal(signal) => signal.as_str().to_owned(),
            other => other.name().to_owned(),
        };
        line("rule", format!("{}: {what}", rule.name));
    }
    for file in &config.only().recipe.env.files {
        let missing = if file.exists() { "" } else { " (not found)" };
        line("env", format!("{}{missing}", printable(file)));
    }
    let own = search::existing(&config.only().recipe.env.search);
    let own: Vec<String> = own.map(|place| printable(place)).collect();
    if !own.is_empty() {
        line("PATH", format!("{}:$PATH", own.join(":")));
    }
    for root in &config.only().watch.roots {
        line("watch", printable(root));
    }
    let extensions = match &config.only().watch.extensions {
        Extensions::Any => "all files".to_owned(),
        Extensions::Only(list) => {
            let names: Vec<_> = list.iter().map(String::as_str).collect();
            format!("files ending in {}", names.join(", "))
        }
    };
    let found = watch::survey(&config.only().watch);
    line("", format!("{} in {} directories: {extensions}", found.files, found.directories));
    if let Some(sources) = &config.only().watch.sources {
        line("", sources_of(config, sources));
    }
    if let Some(limit) = watch::limit() {
        let text = format!(
            "{} of the {} that each user has ({})",
            found.directories, limit.value, limit.name
        );
        line("watches", text);
    }
    let outside: BTreeSet<&Path> =
        config.only().watch.packages_outside().map(PathBuf::as_path).collect();
    if !outside.is_empty() {
        let outside: Vec<PathBuf> = outside.into_iter().map(Path::to_owned).collect();
        line("outside", format!("{} (go list)", name_paths(&outside, &config.only().watch.base)));
    }
    let left_out = config.only().watch.exclude_dirs.union(&config.only().watch.without);
    let without: Vec<PathBuf> = left_out.cloned().collect();
    if !without.is_empty() {
        line("excluded", name_paths(&without, &config.only().watch.base));
    }
    lines
}

/// The proxy, and where requests go.
fn proxy(config: &Config) -> Vec<(&'static str, String)> {
    let service = config.only();
    let (Some(proxy), Some(upstream)) = (&service.proxy, &service.recipe.upstream) else {
        return Vec::new();
    };
    let public = if proxy.bind.is_public() { " (other machines can connect)" } else { "" };
    let routes = proxy.routes.iter().filter(|route| route.prefix != "/");
    let routes = routes.map(|route| ("", format!("{} → :{}", route.prefix, route.port)));
    let whole = format!("{} → {upstream}{public}", proxy.url());
    [("proxy", whole)].into_iter().chain(routes).collect()
}

/// What go has named, and what that decides.
fn sources_of(config: &Config, sources: &Sources) -> String {
    match sources.error() {
        Some(why) if config.only().watch.sources_decide => {
            format!("source files by extension, because go list failed: {why}")
        }
        Some(why) => format!("go list failed: {why}"),
        None if config.only().watch.sources_decide => {
            format!("source files: those of {} packages (go list)", sources.packages().count())
        }
        None => "and what the build reads outside (go list)".to_owned(),
    }
}

/// The flags for Go's linker that hotrun adds to a build of its own.
fn ldflags(config: &Config) -> Option<String> {
    let argvs = config.only().recipe.build.stages.iter().filter_map(|stage| match &stage.command {
        Command::Argv(argv) => Some(argv),
        Command::Shell(..) => None,
    });
    let mut words = argvs.flatten().map(|word| word.to_string_lossy().into_owned());
    words.find(|word| word.starts_with("-ldflags="))
}

/// Values as TOML, with where each is from behind it.
fn settings(config: &Config, all: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut table = "";
    let shown: Vec<_> =
        config.project.settings.iter().filter(|setting| all || !setting.is_default).collect();
    let hidden = config.project.settings.len() - shown.len();
    let (top, below): (Vec<_>, Vec<_>) =
        shown.into_iter().partition(|setting| !setting.key.contains('.'));
    for setting in top.into_iter().chain(below) {
        let (of, name) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if of != table {
            lines.push(format!("[{of}]"));
            table = of;
        }
        let text = format!("{name} = {}", indented(&setting.value));
        lines.push(format!("{text:<47} # {}", setting.origin));
    }
    if hidden > 0 {
        let blank = (!lines.is_empty()).then(String::new);
        lines.extend(blank);
        lines.push(format!("# {hidden} keys have their defaults; to show them: --all"));
    }
    lines
}

/// What would be run.
fn describe_program(program: &Program) -> String {
    match program {
        Program::None => "nothing: only the build".to_owned(),
        Program::Command(command) => process::describe(command),
        Program::Built(args) => {
            let argv = [OsString::from("(the executable that cargo reports)")];
            let words = argv.into_iter().chain(args.iter().cloned());
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        }
    }
}

/// What a save of this path triggers, and by which key or rule.
pub(super) fn explain(config: &Config, path: &Path) -> String {
    let shown = name_paths(std::slice::from_ref(&path.to_owned()), &config.only().watch.base);
    let filter = Filter::new(config.only().watch.clone());
    let text = if config.only().comes_from(&config.project, path) {
        "reload the configuration".to_owned()
    } else if path.is_dir() {
        explain_directory(config, &filter, path)
    } else {
        explain_file(config, &filter, path)
    };
    format!("{shown}: {text}")
}

fn explain_directory(config: &Config, filter: &Filter, path: &Path) -> String {
    let inside = path.join("x");
    let foreign = watch::foreign(path, filter);
    let what = match filter.judge(&inside).1 {
        reason @ (Reason::Never(_)
        | Reason::ExcludeDir(_)
        | Reason::Exclude(_)
        | Reason::Hidden(_)
        | Reason::Installed(_)
        | Reason::Outside)
            if filter.prunes(path) =>
        {
            format!("not watched: {}", why(config, path, reason))
        }
        _ if filter.prunes(path) => "not watched: nothing in it is included".to_owned(),
        _ if foreign.is_some() => {
            let because = foreign.map(|reason| why(config, path, reason));
            format!("not watched: {}", because.unwrap_or_default())
        }
        _ if watch::is_gitignored(&inside, &config.only().watch) => {
            format!("not watched: excluded by .gitignore; {}", origin(config, "watch.gitignore"))
        }
        _ => "watched".to_owned(),
    };
    format!("a directory, {what}")
}

fn explain_file(config: &Config, filter: &Filter, path: &Path) -> String {
    let (verdict, reason) = filter.judge(path);
    if let Some(reason) = watch::foreign(path, filter) {
        return format!("ignored: {}", why(config, path, reason));
    }
    let because = why(config, path, reason);
    if verdict == Verdict::Ignored {
        let may_be_read = matches!(config.only().kind, Kind::Cargo(_))
            && matches!(reason, Reason::NoExtension | Reason::Hidden(_) | Reason::Outside);
        let unless = if may_be_read { " (unless the last build read it)" } else { "" };
        return format!("ignored{unless}: {because}");
    }
    if watch::is_gitignored(path, &config.only().watch) {
        let key = origin(config, "watch.gitignore");
        return format!("ignored: excluded by .gitignore; {key}");
    }
    if config.only().recipe.env.files.iter().any(|file| file == path) && reason == Reason::InUse {
        let key = origin(config, "env_files");
        return format!("restart without a build, if a variable changes: {key}");
    }
    let policy = config.only().policy(&config.project);
    let follows = match (reason, policy.builds, policy.runs) {
        (Reason::Revival, ..) => "restart if the program has exited".to_owned(),
        (Reason::Rule(number), ..) => what_follows(&config.only().watch.rules[number].action),
        (_, true, true) if config.only().recipe.build.stages.is_empty() => {
            "check the syntax and restart".to_owned()
        }
        (_, true, true) => "rebuild and restart".to_owned(),
        (_, true, false) => "rebuild".to_owned(),
        (_, false, _) => "restart".to_owned(),
    };
    format!("{follows}: {because}")
}

fn what_follows(action: &Action) -> String {
    match action {
        Action::Run { cmd, .. } => format!("run {cmd:?}"),
        Action::Restart => "restart without a build".to_owned(),
        Action::Signal(signal) => format!("send {signal} to the program"),
        Action::Reload | Action::Css => "nothing: browser reload is not implemented yet".to_owned(),
    }
}

fn why(config: &Config, path: &Path, reason: Reason<'_>) -> String {
    let name = |path: &Path| name_paths(&[path.to_owned()], &config.only().watch.base);
    let by = |key: &str| origin(config, key);
    match reason {
        Reason::InUse => "hotrun reads this file itself".to_owned(),
        Reason::Outside => "outside of all watched directories".to_owned(),
        Reason::Artifact => "the program is started from it".to_owned(),
        Reason::Never(path) => {
            let key = if path.starts_with(&config.only().recipe.tmp_dir) {
                "tmp_dir"
            } else {
                "testdata_dir"
            };
            format!("{} is excluded by {}", name(path), by(key))
        }
        Reason::ExcludeDir(path) => {
            format!("{} is excluded by {}", name(path), by("build.exclude_dir"))
        }
        Reason::Exclude(path) => format!("{} is excluded by {}", name(path), by("watch.exclude")),
        Reason::Hidden(path) => format!("the name of {} begins with a dot", name(path)),
        Reason::Installed(path) => format!("{} holds installed packages", name(path)),
        Reason::OutsideIncludeDir => {
            format!("outside of {}", by("build.include_dir"))
        }
        Reason::ExcludeFile => format!("excluded by {}", by("build.exclude_file")),
        Reason::ExcludeRegex => format!("excluded by {}", by("build.exclude_regex")),
        Reason::Dropping => "a temporary file of an editor or a bundler".to_owned(),
        Reason::Rule(number) => format!("rule {}", config.only().watch.rules[number].name),
        Reason::IncludeFile => format!("listed in {}", by("build.include_file")),
        Reason::Include => format!("matches {}", by("watch.include")),
        Reason::Input => "the last build read it".to_owned(),
        Reason::Listed => "part of the program (go list)".to_owned(),
        Reason::NotListed if project::go::is_module_file(path) => {
            "the program does not use its module (go list)".to_owned()
        }
        Reason::NotListed => "the program does not import its package (go list)".to_owned(),
        Reason::Cache(place) => format!(
            "{} holds caches, packages or build output (CACHEDIR.TAG, CMakeCache.txt, Meson, \
             pyvenv.cfg, composer)",
            name(place)
        ),
        Reason::Foreign(place) => {
            format!("{} is a project of its own that the program does not use", name(place))
        }
        Reason::Extension => format!("extension listed in {}", by("build.include_ext")),
        Reason::Revival => format!("extension listed in {}", by("run.revive_ext")),
        Reason::NoExtension => {
            format!("extension not listed in {}", by("build.include_ext"))
        }
    }
}

/// A key and where its value is from.
fn origin(config: &Config, key: &str) -> String {
    let setting = config.project.settings.iter().find(|setting| setting.key == key);
    format!("{key} ({})", setting.map_or("default", |setting| &setting.origin))
}
