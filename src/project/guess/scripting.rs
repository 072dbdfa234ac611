//! Ruby, PHP, Deno, Elixir, Perl and other languages that are run from their sources.

use serde_json::Value as Json;

use super::{Guess, Outcome, Place, needing, unable, uninstalled};

const RUBY: [&str; 6] = ["rb", "ru", "erb", "slim", "haml", "yml"];
const DENO: [&str; 7] = ["ts", "tsx", "js", "jsx", "mts", "mjs", "json"];

/// A single file that is run by its language's own command.
struct Language {
    kind: &'static str,
    tool: &'static str,
    names: &'static [&'static str],
    /// What is put between the command and the file.
    flags: &'static str,
    extensions: &'static [&'static str],
}

const LANGUAGES: [Language; 15] = [
    Language {
        kind: "Ruby",
        tool: "ruby",
        names: &["app.rb", "main.rb", "server.rb", "index.rb"],
        flags: "",
        extensions: &RUBY,
    },
    Language {
        kind: "PHP",
        tool: "php",
        names: &["server.php", "main.php"],
        flags: "",
        extensions: &["php"],
    },
    Language {
        kind: "Deno",
        tool: "deno",
        names: &["mod.ts", "main.ts", "server.ts"],
        flags: "run -A ",
        extensions: &DENO,
    },
    Language {
        kind: "Lua",
        tool: "lua",
        names: &["main.lua", "app.lua", "server.lua", "init.lua"],
        flags: "",
        extensions: &["lua"],
    },
    Language {
        kind: "Perl",
        tool: "perl",
        names: &["app.pl", "main.pl", "server.pl", "script.pl"],
        flags: "",
        extensions: &["pl", "pm", "t"],
    },
    Language {
        kind: "Julia",
        tool: "julia",
        names: &["main.jl", "app.jl", "server.jl"],
        flags: "--project ",
        extensions: &["jl", "toml"],
    },
    Language {
        kind: "R",
        tool: "Rscript",
        names: &["app.R", "main.R", "server.R"],
        flags: "",
        extensions: &["R", "Rmd"],
    },
    Language {
        kind: "Elixir script",
        tool: "elixir",
        names: &["main.exs", "app.exs", "server.exs"],
        flags: "",
        extensions: &["exs", "ex"],
    },
    Language {
        kind: "Tcl",
        tool: "tclsh",
        names: &["main.tcl", "app.tcl", "server.tcl"],
        flags: "",
        extensions: &["tcl"],
    },
    Language {
        kind: "Guile",
        tool: "guile",
        names: &["main.scm", "app.scm", "server.scm"],
        flags: "--no-auto-compile -L . ",
        extensions: &["scm", "sld"],
    },
    Language {
        kind: "Racket",
        tool: "racket",
        names: &["main.rkt", "app.rkt", "server.rkt"],
        flags: "",
        extensions: &["rkt"],
    },
    Language {
        kind: "Common Lisp",
        tool: "sbcl",
        names: &["main.lisp", "app.lisp", "server.lisp"],
        flags: "--script ",
        extensions: &["lisp", "cl", "asd"],
    },
    Language {
        kind: "Groovy",
        tool: "groovy",
        names: &["main.groovy", "app.groovy", "server.groovy"],
        flags: "",
        extensions: &["groovy"],
    },
    Language {
        kind: "PowerShell",
        tool: "pwsh",
        names: &["main.ps1", "app.ps1", "server.ps1"],
        flags: "",
        extensions: &["ps1", "psm1"],
    },
    Language {
        kind: "shell script",
        tool: "sh",
        names: &["run.sh", "start.sh", "dev.sh", "main.sh"],
        flags: "",
        extensions: &["sh", "bash"],
    },
];

/// Frameworks that have unmistakable files.
pub(super) fn guess_application(place: &Place<'_>) -> Outcome {
    let bundled = |program: &str| {
        if place.has("Gemfile") { format!("bundle exec {program}") } else { program.to_owned() }
    };
    let ruby = if place.has("Gemfile") { "bundle" } else { "ruby" };
    if place.has("bin/rails") && place.has("config/application.rb") {
        return needing(place, ruby, "Rails", "bin/rails", || {
            // In development, Rails reloads `app` by itself.
            Guess::new("Rails", "bin/rails")
                .runs("bin/rails server")
                .watches(&["rb", "yml", "lock"])
                .set_list("build.include_dir", &["config", "lib"])
                .set_list("build.include_file", &["Gemfile.lock", ".env"])
        });
    }
    if place.has("config.ru") {
        return needing(place, ruby, "Rack", "config.ru", || {
            let program = match place.read("Gemfile").contains("puma") {
                true if place.has("config/puma.rb") => "puma",
                true => "puma -p 9292",
                false => "rackup",
            };
            Guess::new("Rack", "config.ru").runs(bundled(program)).watches(&RUBY)
        });
    }
    if place.read("mix.exs").contains("{:") && !place.directory.join("deps").is_dir() {
        return uninstalled("Elixir", "mix.exs", "mix deps.get");
    }
    if place.has("mix.exs") {
        return needing(place, "mix", "Elixir", "mix.exs", || {
            let is_phoenix = place.read("mix.exs").contains(":phoenix,");
            if is_phoenix {
                // It compiles what has changed with the next request.
                let settings = ["mix.exs", "mix.lock", "config/config.exs", "config/dev.exs"];
                return Guess::new("Phoenix", "mix.exs")
                    .runs("mix phx.server")
                    .reloads_itself(&settings, &["ex", "exs", "heex"]);
            }
            Guess::new("Elixir", "mix.exs")
                .builds("mix compile")
                .runs("mix run --no-halt --no-compile")
                .watches(&["ex", "exs", "eex", "heex", "leex"])
                .excludes(&["_build", "deps"])
        });
    }
    match php(place) {
        Outcome::Unknown => {}
        outcome => return outcome,
    }
    if let Some(file) = place.first(&["deno.json", "deno.jsonc"]) {
        return deno(place, file);
    }
    if place.has("app.psgi") {
        return needing(place, "plackup", "PSGI", "app.psgi", || {
            Guess::new("PSGI", "app.psgi").runs("plackup app.psgi").watches(&["pl", "pm", "psgi"])
        });
    }
    Outcome::Unknown
}

/// How Ruby, PHP and Perl projects are tested.
pub(super) fn test_command(place: &Place<'_>) -> Option<String> {
    let is_directory = |name: &str| place.directory.join(name).is_dir();
    let bundled = if place.has("Gemfile") { "bundle exec " } else { "" };
    let has_specs = place.has(".rspec") || place.has("spec/spec_helper.rb");
    if has_specs {
        return Some(format!("{bundled}rspec"));
    }
    if place.has("bin/rails") {
        return Some("bin/rails test".to_owned());
    }
    if place.has("Rakefile") {
        return Some(format!("{bundled}rake test"));
    }
    if place.has("artisan") {
        return Some("php artisan test".to_owned());
    }
    let composer: Json = serde_json::from_str(&place.read("composer.json")).unwrap_or_default();
    if composer.get("scripts").is_some_and(|scripts| scripts.get("test").is_some()) {
        return Some("composer run-script --timeout=0 test".to_owned());
    }
    if place.has("vendor/bin/pest") {
        return Some("vendor/bin/pest".to_owned());
    }
    let settings = ["phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml", "composer.json"];
    if place.first(&settings).is_some() {
        return Some("vendor/bin/phpunit".to_owned());
    }
    let is_perl = ["Makefile.PL", "Build.PL", "cpanfile", "dist.ini"];
    (place.first(&is_perl).is_some() && is_directory("t")).then(|| "prove -lr t".to_owned())
}

fn php(place: &Place<'_>) -> Outcome {
    const SETTINGS: [&str; 2] = [".env", "composer.lock"];
    let composer: Json = serde_json::from_str(&place.read("composer.json")).unwrap_or_default();
    let needs = composer.get("require").and_then(Json::as_object).into_iter().flatten();
    // (`php` and `ext-json` are no packages.)
    let mut packages = needs.filter(|(name, _)| name.contains('/'));
    let kind = if place.has("artisan") { "Laravel" } else { "PHP" };
    let scripts = composer.get("scripts").and_then(Json::as_object);
    let script = ["dev", "serve", "start"].into_iter().find_map(|name| {
        let script = scripts?.get(name)?;
        Some((name, script.as_str().unwrap_or_default().trim()))
    });
    let root = ["public", "web", "htdocs"];
    let root = root.into_iter().find(|name| place.has(&format!("{name}/index.php")));
    let is_served = root.is_some() || place.has("index.php");
    let is_run = kind == "Laravel" || script.is_some() || is_served;
    if is_run && packages.next().is_some() && !place.has("vendor/autoload.php") {
        return uninstalled(kind, "composer.json", "composer install");
    }
    if kind == "Laravel" {
        return needing(place, "php", kind, "artisan", || {
            // Each request runs the newest code; the settings are read at the start.
            Guess::new(kind, "artisan")
                .runs("php artisan serve --no-reload")
                .reloads_itself(&SETTINGS, &["php"])
        });
    }
    if let Some((name, line)) = script {
        let evidence = format!("composer.json, script \"{name}\"");
        let (tool, line) = match line.replacen("@php ", "php ", 1) {
            line if line.starts_with("php ") && !line.contains("&&") => ("php", line),
            // A program that runs for ever exceeds its time.
            _ => ("composer", format!("composer run-script --timeout=0 {name}")),
        };
        return needing(place, tool, "PHP", "composer.json", || {
            let guess = Guess::new("PHP", evidence).runs(&*line);
            // Its server runs the newest code for each request.
            let is_server = scripts.is_some_and(|all| all[name].to_string().contains(" -S "));
            if is_server {
                guess.reloads_itself(&SETTINGS, &["php"])
            } else {
                guess.watches(&["php", "json", "ini", "twig"])
            }
        });
    }
    if !is_served {
        return Outcome::Unknown;
    }
    needing(place, "php", "PHP", "index.php", || {
        let root = root.map(|root| format!(" -t {root}")).unwrap_or_default();
        Guess::new("PHP", "index.php")
            .runs(format!("php -S 127.0.0.1:8000{root}"))
            .reloads_itself(&SETTINGS, &["php"])
    })
}

fn deno(place: &Place<'_>, file: &str) -> Outcome {
    let json: Json = serde_json::from_str(&without_comments(&place.read(file))).unwrap_or_default();
    let task = ["dev", "start"].into_iter().find_map(|name| {
        let task = json.get("tasks")?.get(name)?;
        let line = task.as_str().or_else(|| task.get("command")?.as_str())?;
        Some((name, line.to_owned()))
    });
    let guess = |evidence: String| Guess::new("Deno", evidence).watches(&DENO);
    if let Some((name, line)) = task {
        return needing(place, "deno", "Deno", file, || {
            let evidence = format!("{file}, task \"{name}\"");
            if !line.starts_with("deno ") {
                // Vite and the like, which `deno task` finds.
                return Guess::new("Deno", evidence)
                    .runs(format!("deno task {name}"))
                    .reloads_itself(&[file, ".env"], &DENO);
            }
            let is_kept = |word: &&str| !word.starts_with("--watch") && !word.starts_with("--hot");
            let words: Vec<&str> = line.split_whitespace().filter(is_kept).collect();
            guess(evidence).runs(words.join(" "))
        });
    }
    let names = ["main.ts", "server.ts", "mod.ts", "index.ts", "main.tsx", "src/main.ts"];
    match place.first(&names) {
        Some(entry) => needing(place, "deno", "Deno", file, || {
            guess(format!("{file}, {entry}")).runs(format!("deno run -A {entry}"))
        }),
        None => unable(
            format!("{file} has no task \"dev\" or \"start\", and there is no main.ts"),
            "name the file to run, for example: `hotrun deno run -A app.ts`",
        ),
    }
}

/// JSON with comments and trailing commas, without them.
fn without_comments(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text.chars().peekable();
    let mut is_text = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' if is_text => clean.extend([c].into_iter().chain(rest.next())),
            '"' => {
                is_text = !is_text;
                clean.push(c);
            }
            '/' if !is_text && rest.peek() == Some(&'/') => {
                rest.by_ref().find(|c| *c == '\n');
            }
            '/' if !is_text && rest.peek() == Some(&'*') => {
                let mut last = ' ';
                rest.by_ref()
                    .skip(1)
                    .find(|c| std::mem::replace(&mut last, *c) == '*' && *c == '/');
            }
            '}' | ']' if !is_text => {
                let end = clean.trim_end().trim_end_matches(',').len();
                clean.truncate(end);
                clean.push(c);
            }
            c => clean.push(c),
        }
    }
    clean
}

/// A script with a usual name.
pub(super) fn guess_script(place: &Place<'_>) -> Outcome {
    for language in &LANGUAGES {
        if let Some(name) = place.first(language.names) {
            let Language { kind, tool, flags, extensions, .. } = *language;
            return needing(place, tool, kind, name, || {
                let is_bundled = tool == "ruby" && place.has("Gemfile");
                let before = if is_bundled { "bundle exec " } else { "" };
                let line = match kind {
                    // Its first line names the shell.
                    "shell script" if place.finds(place.directory.join(name)) => {
                        format!("./{name}")
                    }
                    "Perl" if place.read(name).contains("Mojolicious::Lite") => {
                        format!("perl {name} daemon")
                    }
                    _ => format!("{before}{tool} {flags}{name}"),
                };
                Guess::new(kind, name).runs(line).watches(extensions)
            });
        }
    }
    Outcome::Unknown
}
