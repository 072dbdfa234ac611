//! Node and Bun: `package.json`, whose scripts often watch by themselves.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value as Json;

use super::{
    Guess, Outcome, Place, found_in, joined, needing, not_installed, one_of, search, unable,
    uninstalled,
};
use crate::event::quoted;

/// Extensions of sources.
const JAVASCRIPT: [&str; 5] = ["js", "mjs", "cjs", "jsx", "json"];
const TYPESCRIPT: [&str; 9] = ["ts", "tsx", "mts", "cts", "js", "mjs", "cjs", "jsx", "json"];
/// Extensions of what dev servers serve.
pub(super) const SERVED: [&str; 16] = [
    "ts", "tsx", "mts", "cts", "js", "mjs", "cjs", "jsx", "json", "vue", "svelte", "astro", "html",
    "css", "scss", "mdx",
];
/// Commands of dev servers that serve nothing.
const OTHER_COMMANDS: [&str; 10] = [
    "build",
    "preview",
    "export",
    "generate",
    "lint",
    "test",
    "check",
    "typecheck",
    "sync",
    "info",
];
/// Commands that serve a page, and follow saves by themselves.
const DEV_SERVERS: [&str; 35] = [
    "vite",
    "next",
    "nuxt",
    "nuxi",
    "astro",
    "remix",
    "react-router",
    "react-scripts",
    "craco",
    "vue-cli-service",
    "ng",
    "gatsby",
    "webpack",
    "webpack-dev-server",
    "rspack",
    "rsbuild",
    "parcel",
    "svelte-kit",
    "expo",
    "storybook",
    "start-storybook",
    "wrangler",
    "vitepress",
    "vuepress",
    "docusaurus",
    "eleventy",
    "strapi",
    "medusa",
    "live-server",
    "browser-sync",
    "babel-watch",
    "vinxi",
    "ember",
    "quasar",
    "electron-vite",
];
/// Commands that start several others, which often watch.
const RUNNERS: [&str; 9] =
    ["concurrently", "npm-run-all", "run-p", "run-s", "turbo", "nx", "lerna", "wireit", "gulp"];
/// Files that are run where no script says anything.
const ENTRIES: [&str; 14] = [
    "index.js",
    "server.js",
    "app.js",
    "main.js",
    "index.mjs",
    "server.mjs",
    "src/index.js",
    "src/server.js",
    "src/main.js",
    "src/app.js",
    "index.ts",
    "server.ts",
    "src/index.ts",
    "src/main.ts",
];
/// Directories into which compilers write.
const OUTPUTS: [&str; 4] = ["dist", "build", "out", "lib"];
/// Maximum number of packages of a workspace that are looked at.
const MAX_WORKSPACES: usize = 50;
/// Maximum number of scripts that call each other.
const MAX_DEPTH: usize = 5;
/// The last major version of Node in which some releases do not run TypeScript.
const MAX_BLIND_VERSION: u32 = 22;

struct Package<'a> {
    place: &'a Place<'a>,
    json: Json,
    manager: &'static str,
}

/// The guess for a package below, as one for the root.
fn of_workspace(name: &str, guess: &Guess) -> Guess {
    let enter = format!("cd {}", quoted(name));
    let mut moved = Guess::new(guess.kind.clone(), format!("{name}/{}", guess.evidence));
    for (key, value) in &guess.values {
        let text = value.as_str().unwrap_or_default();
        moved = match key.as_str() {
            // The program is to be the shell's successor, and hear signals.
            "build.entrypoint" => moved.runs(format!("{enter} && exec {text}")),
            "build.full_bin" => moved.runs(format!("{enter} && {text}")),
            "build.cmd" => moved.builds(format!("({enter} && {text})")),
            "build.include_file" | "build.exclude_dir" | "watch.include" => {
                let below = value.as_array().into_iter().flatten().filter_map(|one| one.as_str());
                let below: Vec<String> = below.map(|one| format!("{name}/{one}")).collect();
                moved.set(key, below)
            }
            _ => moved.set(key, value.clone()),
        };
    }
    moved
}

/// What a script comes down to without its watcher.
#[derive(Debug, Default, PartialEq)]
struct Plain {
    variables: Vec<(String, String)>,
    build: Option<String>,
    run: String,
    /// Whether the program reloads by itself.
    reloads_itself: bool,
}

pub(super) fn guess(place: &Place<'_>) -> Outcome {
    if !place.has("package.json") {
        return without_package(place);
    }
    let json = match package(place) {
        Ok(json) => json,
        Err(error) => {
            return unable(format!("package.json cannot be read: {error}"), "fix package.json");
        }
    };
    let manager = manager(place, &json);
    let package = Package { place, json, manager };
    for name in ["dev", "start", "develop", "serve", "start:dev"] {
        if let Some(script) = package.script(name) {
            let mut plain = package.simplify(script, name, MAX_DEPTH);
            if script.contains("nodemon") {
                plain.variables.extend(package.variables_of_nodemon());
            }
            let is_by_manager = plain.run == package.run_script(name);
            if package.script(&format!("pre{name}")).is_some() && !is_by_manager {
                let before = package.run_script(&format!("pre{name}"));
                plain.build = Some(match plain.build {
                    Some(build) => format!("{before} && {build}"),
                    None => before,
                });
            }
            package.add_build(&mut plain);
            return package.outcome(&plain, &format!("package.json, script \"{name}\""));
        }
    }
    match package.workspaces() {
        Outcome::Unknown => {}
        outcome => return outcome,
    }
    let main = package.json.get("main").and_then(Json::as_str);
    let exists = |file: &&str| place.has(file) || place.has(&format!("{file}.js"));
    let is_made = |file: &&str| package.script("build").is_some() && is_output(file);
    let main = main.filter(|main| exists(main) || is_made(main));
    let Some(file) = main.or_else(|| place.first(&ENTRIES)) else {
        return unable(
            "package.json has no script \"dev\" or \"start\" and no \"main\" that exists",
            "name the file to run, for example: `hotrun node server.js`",
        );
    };
    let mut plain = Plain { run: package.run_file(file), ..Plain::default() };
    package.add_build(&mut plain);
    package.outcome(&plain, &format!("package.json, {file}"))
}

fn package(place: &Place<'_>) -> serde_json::Result<Json> {
    serde_json::from_str(place.read("package.json").trim_start_matches('\u{feff}'))
}

/// Whether a command, or the script that it names, follows saves by itself.
pub(super) fn serves_itself(directory: &Path, words: &[String]) -> bool {
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    while matches!(words.first(), Some(&("npx" | "bunx" | "exec"))) {
        words.remove(0);
    }
    let tool = words.first().map_or("", |first| first.rsplit('/').next().unwrap_or_default());
    if DEV_SERVERS.contains(&tool) {
        let is_production = tool == "next" && words.get(1) == Some(&"start");
        let is_other = words.get(1).is_some_and(|word| OTHER_COMMANDS.contains(word));
        return !is_other && !is_production;
    }
    if !matches!(tool, "npm" | "pnpm" | "yarn" | "bun") {
        return false;
    }
    let path = search::path(directory);
    let place = Place::new(directory, &path);
    let Ok(json) = package(&place) else { return false };
    let package = Package { place: &place, manager: manager(&place, &json), json };
    package.simplify(&joined(words), "", MAX_DEPTH).reloads_itself
}

/// The package's own script for its tests, or the test runner that it has; once, as hotrun does the
/// watching.
pub(super) fn test_command(place: &Place<'_>) -> Option<String> {
    let json = package(place).ok()?;
    let manager = manager(place, &json);
    let package = Package { place, json, manager };
    // (`npm init` writes a script that fails.)
    let script = package.json.get("scripts").and_then(|all| all.get("test")?.as_str());
    let script = script.filter(|script| !script.contains("no test specified"));
    let Some(script) = script else {
        let runners = [
            ("vitest", "vitest run"),
            ("jest", "jest"),
            ("mocha", "mocha"),
            ("ava", "ava"),
            ("tap", "tap"),
        ];
        let found = runners.into_iter().find(|(name, _)| package.has_dependency(name));
        return found.map(|(_, command)| format!("npx {command}"));
    };
    // What a shell has to read is left to the package manager.
    let is_for_shell = script.contains(['&', '|', ';', '<', '>', '$', '`', '(', '\\', '"', '\'']);
    let words: Vec<&str> =
        if is_for_shell { Vec::new() } else { script.split_whitespace().collect() };
    let is_watcher = |word: &&str| is_of_watching(word) || *word == "watch";
    Some(match words.as_slice() {
        // In a terminal it would watch.
        ["vitest"] | ["vitest", "watch" | "dev"] => "npx vitest run".to_owned(),
        ["vitest", option, ..] if option.starts_with('-') => {
            let rest: Vec<&str> =
                words[1..].iter().copied().filter(|word| !is_watcher(word)).collect();
            format!("npx vitest run {}", rest.join(" ")).trim_end().to_owned()
        }
        ["react-scripts", "test", ..] => format!("{manager} test -- --watchAll=false"),
        [tool @ ("jest" | "mocha" | "ava" | "node"), rest @ ..] if rest.iter().any(is_watcher) => {
            let rest: Vec<&str> = rest.iter().copied().filter(|word| !is_watcher(word)).collect();
            let npx = if *tool == "node" { "" } else { "npx " };
            format!("{npx}{tool} {}", rest.join(" ")).trim_end().to_owned()
        }
        // Its own test runner would take the place of the script.
        _ if manager == "bun" => "bun run test".to_owned(),
        _ => format!("{manager} test"),
    })
}

/// A single file that needs no package.
fn without_package(place: &Place<'_>) -> Outcome {
    let names = ["server.js", "index.js", "app.js", "server.mjs", "index.mjs", "main.js"];
    match place.first(&names) {
        // Beside an index.html such a file is for the browser.
        Some(name) if !place.has("index.html") => needing(place, "node", "Node", name, || {
            Guess::new("Node", name).runs(format!("node {name}")).watches(&JAVASCRIPT)
        }),
        _ => Outcome::Unknown,
    }
}

/// The package manager that `packageManager` names, whose lock file lies here, that has installed the
/// dependencies here, or whose lock file lies above.
fn manager(place: &Place<'_>, json: &Json) -> &'static str {
    const LOCKS: [(&str, &str); 6] = [
        ("pnpm-lock.yaml", "pnpm"),
        ("yarn.lock", "yarn"),
        ("bun.lock", "bun"),
        ("bun.lockb", "bun"),
        ("package-lock.json", "npm"),
        ("npm-shrinkwrap.json", "npm"),
    ];
    let named = json.get("packageManager").and_then(Json::as_str).unwrap_or_default();
    let named = ["pnpm", "yarn", "bun", "npm"]
        .into_iter()
        .find(|name| named.split('@').next() == Some(name));
    let lock_in = |directory: &Path| {
        LOCKS.iter().find(|(lock, _)| directory.join(lock).is_file()).map(|(_, name)| *name)
    };
    let installed = || {
        let marks =
            [(".package-lock.json", "npm"), (".modules.yaml", "pnpm"), (".yarn-state.yml", "yarn")];
        let found = marks.iter().find(|(mark, _)| place.has(&format!("node_modules/{mark}")));
        found.map(|(_, name)| *name)
    };
    let own = named.or_else(|| lock_in(place.directory)).or_else(installed);
    own.or_else(|| place.directory.ancestors().find_map(lock_in)).unwrap_or("npm")
}

impl Package<'_> {
    fn script(&self, name: &str) -> Option<&str> {
        let script = self.json.get("scripts")?.get(name)?.as_str()?.trim();
        (!script.is_empty() && !script.starts_with("echo ")).then_some(script)
    }

    fn has_dependency(&self, name: &str) -> bool {
        let tables = ["dependencies", "devDependencies"];
        tables.iter().any(|table| self.json.get(table).is_some_and(|all| all.get(name).is_some()))
    }

    /// The programs of the packages below, as the root has none of its own.
    fn workspaces(&self) -> Outcome {
        let of_json = self.json.get("workspaces");
        let of_json = of_json.and_then(|all| all.get("packages").or(Some(all))?.as_array());
        let of_json = of_json.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned);
        let of_pnpm = self.place.read("pnpm-workspace.yaml");
        let of_pnpm = of_pnpm
            .lines()
            .skip_while(|line| !line.starts_with("packages:"))
            .skip(1)
            .take_while(|line| line.trim_start().starts_with(['-', '#']) || line.trim().is_empty())
            .filter_map(|line| line.trim_start().strip_prefix('-'))
            .map(|line| line.trim().trim_matches(['"', '\'']).to_owned());
        let patterns: Vec<String> = of_json.chain(of_pnpm).collect();
        let mut names: Vec<String> = Vec::new();
        for pattern in patterns.iter().map(|pattern| pattern.trim_start_matches("./")) {
            let whole = pattern.trim_end_matches('/');
            match whole.strip_suffix("/*").or(whole.strip_suffix("/**")) {
                Some(above) => names.extend(self.place.directories_in(above)),
                None => names.push(whole.to_owned()),
            }
        }
        names.retain(|name| !name.contains(['*', '!']) && !name.is_empty() && !name.contains(".."));
        names.truncate(MAX_WORKSPACES);
        let mut all = Vec::new();
        for name in names {
            let directory = self.place.directory.join(&name);
            let place = Place::new(&directory, self.place.path);
            match if place.has("package.json") { guess(&place) } else { Outcome::Unknown } {
                // One that only has a `main` is a library.
                Outcome::Found(guess) if guess.evidence.contains("script") => {
                    all.push(of_workspace(&name, &guess));
                }
                outcome @ Outcome::Uninstalled { .. } => return outcome,
                Outcome::Found(_)
                | Outcome::Several(_)
                | Outcome::Unable { .. }
                | Outcome::Unknown => {}
            }
        }
        one_of(all, || Outcome::Unknown)
    }

    fn is_typescript(&self) -> bool {
        self.place.has("tsconfig.json") || self.has_dependency("typescript")
    }

    /// How a file is run.
    fn run_file(&self, file: &str) -> String {
        let tool = if self.manager == "bun" {
            "bun"
        } else if !has_types(file) {
            "node"
        } else if self.has_dependency("ts-node") && !self.has_dependency("tsx") {
            "ts-node"
        } else if self.has_dependency("tsx") || !strips_types(self.place) {
            "tsx"
        } else {
            "node"
        };
        format!("{tool} {file}")
    }

    /// The script without its watcher.
    fn simplify(&self, script: &str, name: &str, depth: usize) -> Plain {
        let as_it_is = || Plain { run: self.run_script(name), ..Plain::default() };
        let is_watcher = ["watch", "nodemon", "--hot", " -w", "dev", "serve"];
        let several = || Plain {
            reloads_itself: is_watcher.iter().any(|one| script.contains(one)),
            ..as_it_is()
        };
        let Some(mut words) = shlex::split(script) else { return as_it_is() };
        // Text in quotes is for another command to read.
        let is_special = |word: &String| {
            let special = ['|', ';', '<', '>', '`', '('];
            (word.contains(special) && !word.contains(' '))
                || word.contains('$')
                || matches!(word.as_str(), "&" | "cd")
        };
        if words.iter().any(is_special) {
            return several();
        }
        let before = words.iter().rposition(|word| word == "&&").map(|at| {
            let last = words.split_off(at + 1);
            std::mem::replace(&mut words, last)
        });
        // The shell expands these words, or changes its own state.
        let is_for_one_shell = |word: &String| {
            let own = ["export", "source", ".", "set", "ulimit", "umask", "alias", "eval"];
            word.contains(['*', '?', '[', '~', '{']) || own.contains(&word.as_str())
        };
        if before.iter().flatten().any(is_for_one_shell) {
            return several();
        }
        let mut plain = Plain::default();
        let mut rest = words.iter().map(String::as_str).peekable();
        while let Some(word) = rest.peek() {
            if let Some((variable, value)) = assignment(word) {
                plain.variables.push((variable, value));
            } else if !matches!(*word, "cross-env" | "env" | "npx" | "--" | "bunx") {
                break;
            }
            rest.next();
        }
        let words: Vec<&str> = rest.collect();
        let own = match words.as_slice() {
            ["npm" | "pnpm" | "yarn" | "bun", "run", other]
            | ["node", "--run", other]
            | ["pnpm" | "yarn" | "npm", other @ "start"]
            | ["pnpm" | "yarn", other] => self.script(other).map(|found| (*other, found)),
            _ => None,
        };
        let tool = words.first().copied().unwrap_or_default();
        if let Some((other, found)) = own.filter(|_| depth > 0) {
            plain = Plain { variables: plain.variables, ..self.simplify(found, other, depth - 1) };
        } else if DEV_SERVERS.contains(&tool) || matches!(words[..], ["node", "ace", "serve", ..]) {
            return Plain { reloads_itself: true, ..as_it_is() };
        } else if RUNNERS.contains(&tool) || tool.starts_with('@') {
            return several();
        } else {
            match self.without_watcher(&words) {
                Some((build, run)) => {
                    plain.build = build;
                    plain.run = run;
                }
                None => return several(),
            }
        }
        if let Some(before) = before.filter(|_| !plain.reloads_itself) {
            let words = before.iter().map(String::as_str);
            let words: Vec<&str> = words.take(before.len() - 1).collect();
            let parts = words.split(|word| *word == "&&");
            let mut parts: Vec<String> = parts.map(|part| joined(part.iter().copied())).collect();
            parts.extend(plain.build.take());
            plain.build = Some(self.build_command(&parts));
        }
        plain
    }

    /// Commands of the project's packages are found by the manager.
    fn build_command(&self, parts: &[String]) -> String {
        let parts = parts.iter().map(|part| {
            let tool = part.split(' ').next().unwrap_or_default();
            if self.is_local(tool) { format!("npx {part}") } else { part.clone() }
        });
        parts.collect::<Vec<_>>().join(" && ")
    }

    fn is_local(&self, tool: &str) -> bool {
        let bin = format!("node_modules/.bin/{tool}");
        self.place.directory.ancestors().any(|above| above.join(&bin).exists())
    }

    /// A command without the part that watches: what builds, and what runs.
    fn without_watcher(&self, words: &[&str]) -> Option<(Option<String>, String)> {
        let (tool, rest) = words.split_first()?;
        let join = |tool: &str, rest: &[&str]| {
            let words = [tool].into_iter().chain(rest.iter().copied());
            joined(words)
        };
        let run = match *tool {
            "nodemon" | "node-dev" | "supervisor" => {
                let line = self.of_nodemon(rest)?;
                return Some(match line.rsplit_once("&&") {
                    Some((build, run)) => (Some(build.trim().to_owned()), run.trim().to_owned()),
                    None => (None, line),
                });
            }
            "tsx" | "node" | "bun" | "deno" | "ts-node" | "fastify" | "vite-node" => {
                join(tool, &without_options_of_watching(tool, rest))
            }
            "ts-node-dev" | "tsnd" => join("ts-node", &of_ts_node_dev(rest)),
            "nest" if rest.first() == Some(&"start") => return Some(self.of_nest(&rest[1..])),
            // They set variables, and run the rest.
            "dotenv" | "dotenvx" | "dotenv-flow" | "env-cmd" => {
                let at = match rest.iter().position(|word| *word == "--") {
                    Some(at) => at + 1,
                    None if matches!(rest.first(), Some(&("-f" | "-e" | "--file"))) => 2,
                    None => 0,
                };
                let (build, run) = self.without_watcher(rest.get(at..)?)?;
                return Some((build, format!("{} {run}", join(tool, &rest[..at]))));
            }
            "tsc-watch" => {
                let at = rest.iter().position(|word| *word == "--onSuccess")?;
                return Some((Some("npx tsc".to_owned()), (*rest.get(at + 1)?).to_owned()));
            }
            "tsc" | "tsup" | "babel" | "esbuild" | "rollup" => return None,
            _ if rest.iter().any(|word| is_of_watching(word)) => return None,
            _ => join(tool, rest),
        };
        Some((None, run))
    }

    /// `nest start api --watch --debug` is a build and `node`.
    fn of_nest(&self, rest: &[&str]) -> (Option<String>, String) {
        let is_debug = |word: &&str| word.starts_with("--debug") || *word == "-d";
        let kept: Vec<&str> =
            rest.iter().copied().filter(|word| !is_of_watching(word) && !is_debug(word)).collect();
        let build = format!("npx nest build {}", kept.join(" "));
        let app = kept.first().filter(|word| !word.starts_with('-'));
        let made = app.map_or("dist/main".to_owned(), |app| format!("dist/apps/{app}/main"));
        let built = ["start:prod", "start"].iter().find_map(|name| self.script(name));
        let built = built.filter(|line| line.starts_with("node ") && app.is_none());
        let run = built.map_or(format!("node {made}"), str::to_owned);
        let is_debugged = rest.iter().any(is_debug);
        let run = if is_debugged { run.replacen("node ", "node --inspect ", 1) } else { run };
        (Some(build.trim_end().to_owned()), run)
    }

    /// `nodemon -e ts --exec 'ts-node' src/index.ts`, without nodemon.
    fn of_nodemon(&self, rest: &[&str]) -> Option<String> {
        let mut exec = None;
        let mut words = Vec::new();
        let mut rest = rest.iter().copied();
        while let Some(word) = rest.next() {
            match word {
                "--exec" | "-x" => exec = Some(rest.next()?.to_owned()),
                "-e" | "--ext" | "-w" | "--watch" | "-i" | "--ignore" | "--delay" | "-d"
                | "--signal" | "-s" | "--config" | "-C" | "--cwd" => {
                    rest.next();
                }
                "-q" | "--quiet" | "-V" | "--verbose" | "-L" | "--legacy-watch" | "-I"
                | "--no-stdin" | "--exitcrash" | "--" => {}
                _ if word.starts_with("--exec=") => exec = Some(word["--exec=".len()..].to_owned()),
                _ if ["--ext=", "--watch=", "--ignore=", "--delay=", "--signal="]
                    .iter()
                    .any(|one| word.starts_with(one)) => {}
                _ => words.push(word.to_owned()),
            }
        }
        let settings = self.settings_of_nodemon();
        let exec = exec.or_else(|| settings.get("exec").and_then(Json::as_str).map(str::to_owned));
        if words.is_empty() && exec.is_none() {
            let script = settings.get("script").or(self.json.get("main")).and_then(Json::as_str);
            words.push(script.unwrap_or("index.js").to_owned());
        }
        let words = joined(words.iter().map(String::as_str));
        let line = match exec {
            Some(exec) => format!("{exec} {words}"),
            None if has_types(&words) => format!("ts-node {words}"),
            None => format!("node {words}"),
        };
        Some(line.trim().to_owned())
    }

    fn settings_of_nodemon(&self) -> Json {
        let file = serde_json::from_str(&self.place.read("nodemon.json")).ok();
        file.or_else(|| self.json.get("nodemonConfig").cloned()).unwrap_or_default()
    }

    fn variables_of_nodemon(&self) -> Vec<(String, String)> {
        let settings = self.settings_of_nodemon();
        let variables = settings.get("env").and_then(Json::as_object).into_iter().flatten();
        let text = |value: &Json| value.as_str().map_or(value.to_string(), str::to_owned);
        variables.map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// Adds a build if the program is run from an output directory.
    fn add_build(&self, plain: &mut Plain) {
        let is_made = plain.run.split(' ').skip(1).any(is_output);
        if plain.build.is_none() && is_made && !plain.reloads_itself {
            plain.build = match self.script("build") {
                Some(_) => Some(format!("{} run build", self.manager)),
                None if self.is_typescript() => Some("npx tsc".to_owned()),
                None => None,
            };
        }
    }

    fn run_script(&self, name: &str) -> String {
        match (self.manager, name) {
            ("npm", "start") => "npm start".to_owned(),
            (manager, name) => format!("{manager} run {name}"),
        }
    }

    fn outcome(&self, plain: &Plain, evidence: &str) -> Outcome {
        let manager = self.manager;
        let kind = if manager == "bun" { "Bun" } else { "Node" };
        if !self.place.finds(manager) {
            return not_installed(kind, &self.lock(), manager);
        }
        let (tool, rest) = plain.run.split_once(' ').unwrap_or((&plain.run, ""));
        let is_found = self.place.finds(tool);
        if !self.is_installed() {
            let lacks = |table: &str| {
                self.json.get(table).and_then(Json::as_object).is_some_and(|all| !all.is_empty())
            };
            let is_for_start = plain.build.is_some() || plain.reloads_itself || !is_found;
            if lacks("dependencies") || (lacks("devDependencies") && is_for_start) {
                return uninstalled(kind, evidence, &format!("{manager} install"));
            }
        }
        if let Some(outcome) = self.lacks_variables(kind, evidence, &plain.run) {
            return outcome;
        }
        // Run without the package manager, so that signals reach the program.
        let run = if self.place.has(&format!("node_modules/.bin/{tool}")) {
            format!("./node_modules/.bin/{tool} {rest}").trim_end().to_owned()
        } else if self.is_local(tool) {
            format!("npx {}", plain.run)
        } else if self.place.has(".pnp.cjs") && !is_found {
            format!("yarn {}", plain.run)
        } else if !is_found && !tool.contains('/') {
            format!("npx {}", plain.run)
        } else {
            plain.run.clone()
        };
        let mut guess = Guess::new(kind, evidence);
        if let Some(build) = &plain.build {
            guess = guess.builds(build);
        }
        guess = guess.runs(run);
        if plain.reloads_itself {
            // Dev servers that have failed do not restart when their settings change.
            guess = guess
                .reloads_itself(&["package.json", ".env"], &SERVED)
                .set_list("watch.include", &["*.config.*", "tsconfig*.json"]);
        } else {
            let is_typescript = self.is_typescript() || manager == "bun" || has_types(&plain.run);
            guess = guess.watches(if is_typescript { &TYPESCRIPT } else { &JAVASCRIPT });
            let made: Vec<&str> = OUTPUTS
                .into_iter()
                .filter(|name| plain.run.split([' ', '/']).any(|part| part == *name))
                .collect();
            if plain.build.is_some() {
                guess = guess.excludes(&made);
            }
        }
        let mut files = files_of_variables(&plain.run, &["--env-file", "--env-file-if-exists"]);
        let reads_env = ["dotenv", "dotenv-cli", "@nestjs/config"];
        if files.is_empty() && reads_env.iter().any(|name| self.has_dependency(name)) {
            files.push(".env".to_owned());
        }
        // A program that loads variables does so when it starts.
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        if !files.is_empty() && !plain.reloads_itself {
            guess = guess.set_list("build.include_file", &files);
        }
        guess.variables(&plain.variables).found()
    }

    /// Node exits if an `--env-file` does not exist, and repositories hold only an example of it.
    fn lacks_variables(&self, kind: &str, evidence: &str, run: &str) -> Option<Outcome> {
        let needed = files_of_variables(run, &["--env-file"]);
        let file = needed.into_iter().find(|file| !self.place.has(file))?;
        let ends = [".example", ".sample", ".template", ".dist", ".defaults"];
        let mut examples = ends.iter().map(|end| format!("{file}{end}"));
        let example = examples.find(|example| self.place.has(example))?;
        Some(Outcome::Uninstalled {
            reason: format!(
                "this is a {kind} project ({evidence}) that reads {file}, which is missing"
            ),
            remedy: format!("`cp {} {}`", quoted(&example), quoted(&file)),
        })
    }

    fn is_installed(&self) -> bool {
        let mut above = self.place.directory.ancestors();
        above.any(|place| place.join("node_modules").is_dir()) || self.place.has(".pnp.cjs")
    }

    fn lock(&self) -> String {
        let locks = ["pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"];
        self.place.first(&locks).unwrap_or("package.json").to_owned()
    }
}

/// Whether an option makes a program watch.
fn is_of_watching(word: &str) -> bool {
    word.starts_with("--watch")
        || word.starts_with("--clear-screen")
        || matches!(word, "--hot" | "--no-clear-screen" | "-w")
}

/// Options of Node and of what takes them, too, whose value may be the next word.
const WITH_VALUE: [&str; 9] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "--env-file",
    "--env-file-if-exists",
    "-C",
    "--conditions",
];

/// The words behind a program that can watch by itself, without those that make it do so.
fn without_options_of_watching<'a>(tool: &str, rest: &[&'a str]) -> Vec<&'a str> {
    let is_command = rest.first() == Some(&"watch");
    let mut rest = rest.iter().copied().skip(usize::from(is_command));
    let mut kept = Vec::new();
    // Behind the file, options are the program's own.
    let mut is_programs = false;
    while let Some(word) = rest.next() {
        is_programs |= !word.starts_with('-') && tool == "node";
        let is_of_path = (tool == "node" && word == "--watch-path")
            || (tool == "tsx" && matches!(word, "--ignore" | "--include" | "--exclude"));
        if is_of_path && !is_programs {
            rest.next();
        } else if !is_of_watching(word) || is_programs {
            kept.push(word);
            if WITH_VALUE.contains(&word) && !is_programs {
                kept.extend(rest.next());
            }
        }
    }
    kept
}

/// The files of variables that a command names for Node by these options: `--env-file=.env`.
fn files_of_variables(command: &str, options: &[&str]) -> Vec<String> {
    let words: Vec<&str> = command.split(' ').collect();
    let pairs = words.iter().enumerate().filter_map(|(at, word)| match word.split_once('=') {
        Some((name, file)) => options.contains(&name).then_some(file),
        None => options.contains(word).then(|| words.get(at + 1).copied())?,
    });
    pairs.map(str::to_owned).collect()
}

/// The options of ts-node-dev that ts-node has, too, and the file.
fn of_ts_node_dev<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    let mut rest = rest.iter().copied().peekable();
    let mut kept = Vec::new();
    while let Some(word) = rest.next_if(|word| word.starts_with('-')) {
        match word {
            "-r" | "--require" | "-P" | "--project" => {
                kept.extend([word].into_iter().chain(rest.next()));
            }
            "--ignore-watch" | "--watch" | "--interval" | "--debounce" => {
                rest.next();
            }
            "--transpile-only" | "-T" => kept.push("--transpile-only"),
            _ => {}
        }
    }
    kept.extend(rest);
    kept
}

/// `NAME=value`.
fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

fn is_output(file: &str) -> bool {
    let first = file.trim_start_matches("./").split('/').next().unwrap_or_default();
    OUTPUTS.contains(&first) && file.contains('/')
}

/// Whether a command names a file of TypeScript.
fn has_types(command: &str) -> bool {
    let mut ends = command.split(' ').filter_map(|word| Path::new(word).extension()?.to_str());
    ends.any(|end| matches!(end, "ts" | "tsx" | "mts" | "cts"))
}

/// Whether `node` runs TypeScript, judged by the version in its path, as version managers write it.
/// (Asking `node` takes 40 ms.)
fn strips_types(place: &Place<'_>) -> bool {
    let path = found_in(place.path, OsStr::new("node"))
        .and_then(|path| path.canonicalize().ok())
        .unwrap_or_default();
    let mut versions = path.iter().filter_map(|part| {
        let part = part.to_str()?;
        let part = part.trim_start_matches("node-").trim_start_matches('v');
        part.split('.').next()?.parse::<u32>().ok()
    });
    versions.any(|major| major > MAX_BLIND_VERSION)
}
