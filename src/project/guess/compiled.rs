//! Languages with a build: Java, .NET, Zig, C and C++ with `CMake`, Meson or make, and others.

use std::path::Path;

use super::{
    Guess, NAME_COMMANDS, Outcome, Place, first_known, needing, not_installed, one_of, unable,
};
use crate::event::quoted;

const JAVA: [&str; 7] = ["java", "kt", "scala", "groovy", "xml", "properties", "yml"];
pub(super) const DOTNET: [&str; 8] =
    ["cs", "fs", "vb", "csproj", "fsproj", "razor", "cshtml", "json"];
pub(super) const ZIG: [&str; 4] = ["zig", "zon", "c", "h"];
const C: [&str; 10] = ["c", "h", "cc", "cpp", "cxx", "hh", "hpp", "hxx", "txt", "cmake"];
/// Maximum depth of the directories below `src/main/java` that are looked through.
const MAX_DEPTH: usize = 8;
/// Maximum length of a name that variables are part of, in bytes.
const MAX_NAME: usize = 4096;

pub(super) fn guess(place: &Place<'_>) -> Outcome {
    first_known(place, &[java, dotnet, zig, cmake, dune, others, lone_source])
}

fn java(place: &Place<'_>) -> Outcome {
    if place.has("pom.xml") {
        return maven(place);
    }
    let gradle = place.first(&["build.gradle.kts", "build.gradle"]);
    if gradle.is_some() || place.first(&SETTINGS).is_some() {
        return with_gradle(place);
    }
    if let Some(file) = place.first(&["Main.java", "App.java", "Server.java"]) {
        return needing(place, "java", "Java", file, || {
            let guess = Guess::new("Java", file).watches(&["java"]);
            if place.ending_in(".java").len() == 1 {
                return guess.runs(format!("java {file}"));
            }
            guess
                .builds("javac -d tmp/classes *.java")
                .runs(format!("java -cp tmp/classes {}", file.trim_end_matches(".java")))
        });
    }
    Outcome::Unknown
}

fn maven(place: &Place<'_>) -> Outcome {
    let text = without_xml_comments(&place.read("pom.xml"));
    let mvn = if place.has("mvnw") { "./mvnw" } else { "mvn" };
    if mvn == "mvn" && !place.finds("mvn") {
        return not_installed("Maven", "pom.xml", "mvn");
    }
    let guess = |kind: &str| Guess::new(kind, "pom.xml").watches(&JAVA).excludes(&["target"]);
    for (plugin, goal, kind) in [
        ("quarkus-maven-plugin", "quarkus:dev", "Quarkus"),
        ("micronaut-maven-plugin", "mn:run", "Micronaut"),
    ] {
        if text.contains(plugin) {
            return Guess::new(kind, "pom.xml")
                .runs(format!("{mvn} -q {goal}"))
                .reloads_itself(&["pom.xml"], &JAVA)
                .found();
        }
    }
    let mains = main_classes(place);
    let main = text
        .split_once("<mainClass>")
        .and_then(|(_, rest)| rest.split_once("</mainClass>"))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| !name.contains('$'));
    let mains = main.map_or(mains, |main| vec![main]);
    let has_dependencies = text.contains("<dependency>") || text.contains("<parent>");
    // They would restart the program when its classes change, as hotrun does.
    let has_devtools = text.contains("spring-boot-devtools");
    let option = if has_devtools { "-Dspring.devtools.restart.enabled=false " } else { "" };
    let each = mains.into_iter().map(|main| {
        let kind = if text.contains("spring-boot") { "Spring Boot" } else { "Maven" };
        if has_dependencies {
            let list = "target/hotrun.classpath";
            guess(kind)
                .builds(format!(
                    "{mvn} -q compile && {{ test {list} -nt pom.xml || \
                     {mvn} -q dependency:build-classpath -Dmdep.outputFile={list}; }}"
                ))
                .runs(format!("exec java {option}-cp \"target/classes:$(cat {list})\" {main}"))
        } else {
            guess(kind)
                .builds(format!("{mvn} -q compile"))
                .runs(format!("java -cp target/classes {main}"))
        }
    });
    if text.contains("<modules>") {
        return unable(
            "this is a Maven project of several modules (pom.xml)",
            "name the module that is the program: `hotrun -C MODULE`",
        );
    }
    one_of(each.collect(), || {
        unable(
            "this is a Maven project (pom.xml), and no class in src/main/java has a main method",
            NAME_COMMANDS,
        )
    })
}

const SETTINGS: [&str; 2] = ["settings.gradle.kts", "settings.gradle"];

fn with_gradle(place: &Place<'_>) -> Outcome {
    let settings = SETTINGS.map(|name| place.read(name)).concat();
    let own = place.first(&["build.gradle.kts", "build.gradle"]);
    let evidence = own.or(place.first(&SETTINGS)).unwrap_or_default();
    let gradle = if place.has("gradlew") { "./gradlew" } else { "gradle" };
    if gradle == "gradle" && !place.finds("gradle") {
        return not_installed("Gradle", evidence, "gradle");
    }
    let named = settings
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rootProject.name"))
        .find_map(|rest| rest.split(['"', '\'']).nth(1).map(str::to_owned));
    let named = named.unwrap_or_else(|| place.name());
    // The root itself, and what `include("app", "tools:cli")` names.
    let modules = settings
        .lines()
        .filter_map(|line| line.trim().strip_prefix("include"))
        .flat_map(|rest| rest.split(['"', '\'']).skip(1).step_by(2))
        .map(|module| module.trim_start_matches(':').to_owned());
    let each = [String::new()].into_iter().chain(modules).filter_map(|module| {
        let directory = module.replace(':', "/");
        let file = |name: &str| {
            if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
        };
        let text =
            ["build.gradle.kts", "build.gradle"].map(|name| place.read(&file(name))).concat();
        let name = if module.is_empty() { &named } else { module.rsplit(':').next()? };
        let task = |task: &str| {
            if module.is_empty() { task.to_owned() } else { format!(":{module}:{task}") }
        };
        // A daemon would outlive hotrun.
        let quiet = format!("{gradle} --no-daemon -q");
        let guess =
            |kind| Guess::new(kind, evidence).watches(&JAVA).excludes(&["build", ".gradle"]);
        if text.contains("org.springframework.boot") && !text.contains("apply false") {
            let libs = file("build/libs");
            return Some(
                guess("Spring Boot")
                    .builds(format!("{quiet} {}", task("bootJar")))
                    .runs(format!("exec java -jar $(ls {libs}/*.jar | grep -v plain | head -n 1)")),
            );
        }
        let plugins = [
            "id(\"application\")",
            "id 'application'",
            "id \"application\"",
            "plugin: 'application'",
        ];
        let applies = |line: &str| {
            line.trim() == "application" || plugins.iter().any(|one| line.contains(one))
        };
        text.lines().any(applies).then(|| {
            let bin = file(&format!("build/install/{name}/bin/{name}"));
            guess("Gradle").builds(format!("{quiet} {}", task("installDist"))).runs(bin)
        })
    });
    one_of(each.collect(), || {
        unable(
            format!("this is a Gradle project ({evidence}) without the application plugin"),
            NAME_COMMANDS,
        )
    })
}

fn without_xml_comments(text: &str) -> String {
    let mut parts = text.split("<!--");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once("-->").map_or("", |(_, rest)| rest))
}

/// The classes below `src/main/java` with a main method.
fn main_classes(place: &Place<'_>) -> Vec<String> {
    let root = place.directory.join("src/main/java");
    let mut found = Vec::new();
    let mut left = vec![(root.clone(), 0)];
    let mut seen = 0;
    while let Some((directory, depth)) = left.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            seen += 1;
            if seen > super::MAX_FILES {
                return found;
            }
            // (A link is no directory here.)
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < MAX_DEPTH {
                left.push((path, depth + 1));
            } else if path.extension().is_some_and(|end| end == "java") {
                let name = path.strip_prefix(place.directory).unwrap_or(&path);
                let source = place.read(&name.to_string_lossy());
                if source.contains("static void main(") || source.contains("static void main (") {
                    found.extend(class_name(&root, &path));
                }
            }
        }
    }
    found.sort();
    found
}

fn class_name(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).ok()?.with_extension("");
    let parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    Some(parts.join("."))
}

fn dotnet(place: &Place<'_>) -> Outcome {
    let projects: Vec<String> =
        [".csproj", ".fsproj", ".vbproj"].iter().flat_map(|end| place.ending_in(end)).collect();
    let Some(first) = projects.first() else { return Outcome::Unknown };
    needing(place, "dotnet", ".NET", first, || {
        let option = if projects.len() > 1 { format!(" --project {first}") } else { String::new() };
        // A server of the compiler's would outlive hotrun.
        Guess::new(".NET", first.as_str())
            .builds(format!("dotnet build -nologo -v quiet -nodeReuse:false {first}"))
            .runs(format!("dotnet run --no-build{option}"))
            .watches(&DOTNET)
            .excludes(&["bin", "obj"])
    })
}

fn zig(place: &Place<'_>) -> Outcome {
    let text = place.read("build.zig");
    if text.is_empty() {
        return Outcome::Unknown;
    }
    let name = text
        .split_once("addExecutable")
        .and_then(|(_, rest)| rest.split_once(".name = \""))
        .and_then(|(_, rest)| rest.split('"').next());
    needing(place, "zig", "Zig", "build.zig", || {
        let run = name.map(|name| format!("zig-out/bin/{name}"));
        Guess::new("Zig", "build.zig")
            .builds("zig build")
            .excludes(&["zig-out"])
            .runs(run.unwrap_or_else(|| "zig build run".to_owned()))
            .watches(&ZIG)
    })
}

fn cmake(place: &Place<'_>) -> Outcome {
    if place.read("CMakeLists.txt").is_empty() {
        return meson(place);
    }
    if !place.finds("cmake") {
        return not_installed("CMake", "CMakeLists.txt", "cmake");
    }
    let mut found = Defined::default();
    found.look(place, "", MAX_DEPTH);
    let Defined { variables, programs, tests, .. } = found;
    let output = variables.iter().rev().find(|(name, _)| name == "CMAKE_RUNTIME_OUTPUT_DIRECTORY");
    let output = output.and_then(|(_, path)| {
        let path = path
            .strip_prefix("${CMAKE_BINARY_DIR}")
            .or(path.strip_prefix("${PROJECT_BINARY_DIR}"))?;
        (!path.contains('$')).then(|| format!("build{path}"))
    });
    let each = programs.iter().filter(|(_, name)| !tests.contains(name)).map(|(below, name)| {
        let place = output.clone().unwrap_or_else(|| format!("build{below}"));
        Guess::new("CMake", "CMakeLists.txt")
            .builds("cmake -S . -B build && cmake --build build")
            .runs(format!("{place}/{}", quoted(name)))
            .watches(&C)
            .excludes(&["build"])
    });
    one_of(each.collect(), || {
        unable(
            "this is a CMake project (CMakeLists.txt), and hotrun finds no program in it",
            NAME_COMMANDS,
        )
    })
}

/// What the files of `CMake` define, as far as it can be read without running them.
#[derive(Default)]
struct Defined {
    variables: Vec<(String, String)>,
    /// The directory below the build's, and the name.
    programs: Vec<(String, String)>,
    tests: Vec<String>,
    /// How many files were read.
    files: usize,
}

impl Defined {
    fn look(&mut self, place: &Place<'_>, below: &str, depth: usize) {
        self.files += 1;
        if self.files > super::MAX_FILES {
            return;
        }
        let file = format!("{below}/CMakeLists.txt");
        for (command, words) in commands(&place.read(file.trim_start_matches('/'))) {
            let words: Vec<String> = words.iter().map(|word| self.expand(word)).collect();
            match (command.as_str(), words.as_slice()) {
                ("project", [name, ..]) => self.define("PROJECT_NAME", name),
                ("set", [name, value, ..]) => self.define(&name.clone(), value),
                ("add_executable", [_, kind, ..]) if kind == "ALIAS" || kind == "IMPORTED" => {}
                ("add_executable", [name, ..]) if !name.contains('$') => {
                    self.programs.push((below.to_owned(), name.clone()));
                }
                ("add_test", words) => self.tests.extend(words.iter().cloned()),
                ("add_subdirectory", [name, ..]) if depth > 0 && !name.contains(['$', '.']) => {
                    self.look(place, &format!("{below}/{name}"), depth - 1);
                }
                _ => {}
            }
        }
    }

    fn define(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn expand(&self, word: &str) -> String {
        let known = self.variables.iter().rev();
        known.fold(word.to_owned(), |word, (name, value)| {
            let variable = format!("${{{name}}}");
            // A name that doubles itself would have no end.
            if word.len() + value.len() > MAX_NAME || !word.contains(&variable) {
                return word;
            }
            word.replacen(&variable, value, 1)
        })
    }
}

/// The commands of a `CMakeLists.txt` in lower case, with their arguments.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join("\n");
    let parts: Vec<&str> = text.split('(').collect();
    let calls = parts.windows(2).filter_map(|pair| {
        let name = pair[0].split_whitespace().last()?.rsplit(')').next()?.to_lowercase();
        let arguments = pair[1].split(')').next()?;
        let words = arguments.split_whitespace().map(|word| word.trim_matches('"').to_owned());
        Some((name, words.collect()))
    });
    calls.collect()
}

fn meson(place: &Place<'_>) -> Outcome {
    let text = place.read("meson.build");
    if text.is_empty() {
        return Outcome::Unknown;
    }
    if !place.finds("meson") {
        return not_installed("Meson", "meson.build", "meson");
    }
    let project = first_text(&text, "project(").unwrap_or_default();
    let mut files = vec![(String::new(), text)];
    let mut names = Vec::new();
    let mut read = 1;
    while let Some((below, text)) = files.pop() {
        for part in text.split("subdir('").skip(1) {
            let name = part.split('\'').next().unwrap_or_default();
            let below = format!("{below}/{name}");
            read += 1;
            if below.split('/').count() < MAX_DEPTH && read < super::MAX_FILES {
                files.push((below.clone(), place.read(&format!("{}/meson.build", &below[1..]))));
            }
        }
        for part in text.split("executable(").skip(1) {
            let part = part.trim_start();
            if let Some(name) = part.strip_prefix('\'').and_then(|rest| rest.split('\'').next()) {
                names.push(format!("build{below}/{name}"));
            } else if part.starts_with("meson.project_name()") && !project.is_empty() {
                names.push(format!("build{below}/{project}"));
            }
        }
    }
    let each = names.into_iter().map(|name| {
        Guess::new("Meson", "meson.build")
            .builds("test -f build/build.ninja || meson setup build && meson compile -C build")
            .runs(name)
            .watches(&[&C[..], &["build"]].concat())
            .excludes(&["build"])
    });
    one_of(each.collect(), || {
        unable(
            "this is a Meson project (meson.build), and hotrun finds no program in it",
            NAME_COMMANDS,
        )
    })
}

/// The first argument of a call, if it is a text.
fn first_text(text: &str, call: &str) -> Option<String> {
    let (_, rest) = text.split_once(call)?;
    Some(rest.trim_start().strip_prefix('\'')?.split('\'').next()?.to_owned())
}

/// Directories that hold the programs of a dune project, usually.
const PLACES_OF_DUNE: [&str; 6] = ["bin/", "", "src/", "app/", "server/", "cli/"];

fn dune(place: &Place<'_>) -> Outcome {
    if !place.has("dune-project") {
        return Outcome::Unknown;
    }
    if !place.finds("dune") {
        return not_installed("dune", "dune-project", "dune");
    }
    let mut programs = Vec::new();
    for below in PLACES_OF_DUNE {
        let text = place.read(&format!("{below}dune"));
        let stanzas = text.split("(executable").skip(1);
        let names = stanzas.filter_map(|stanza| {
            let (_, names) = stanza.split_once("(name ").or(stanza.split_once("(names "))?;
            names.split(')').next()
        });
        let names = names.flat_map(str::split_whitespace);
        programs.extend(names.map(|name| format!("{below}{name}.exe")));
    }
    let each = programs.into_iter().map(|program| {
        Guess::new("dune", "dune-project")
            .builds(format!("dune build ./{}", quoted(&program)))
            .runs(format!("_build/default/{}", quoted(&program)))
            .watches(&[
                "ml",
                "mli",
                "mll",
                "mly",
                "re",
                "rei",
                "dune",
                "opam",
                "dune-project",
                "eml",
            ])
            .excludes(&["_build"])
    });
    one_of(each.collect(), || {
        unable("this is a dune project, and hotrun finds no program in it", NAME_COMMANDS)
    })
}

/// A language whose own tool builds and runs its projects.
struct Toolchain {
    kind: &'static str,
    file: &'static str,
    program: &'static str,
    cmd: &'static str,
    run: &'static str,
    extensions: &'static [&'static str],
    made: &'static [&'static str],
}
const TOOLCHAINS: [Toolchain; 10] = [
    Toolchain {
        kind: "Swift",
        file: "Package.swift",
        program: "swift",
        cmd: "swift build",
        run: "swift run --skip-build",
        extensions: &["swift"],
        made: &[".build"],
    },
    Toolchain {
        kind: "Dart",
        file: "pubspec.yaml",
        program: "dart",
        cmd: "",
        run: "dart run",
        extensions: &["dart", "yaml"],
        made: &[".dart_tool"],
    },
    Toolchain {
        kind: "Gleam",
        file: "gleam.toml",
        program: "gleam",
        cmd: "gleam build",
        run: "gleam run",
        extensions: &["gleam", "erl", "mjs", "toml"],
        made: &["build"],
    },
    Toolchain {
        kind: "Stack",
        file: "stack.yaml",
        program: "stack",
        cmd: "stack build",
        run: "stack run",
        extensions: &["hs", "yaml", "cabal"],
        made: &[".stack-work"],
    },
    Toolchain {
        kind: "DUB",
        file: "dub.json",
        program: "dub",
        cmd: "dub build",
        run: "dub run --nodeps",
        extensions: &["d", "json"],
        made: &[".dub"],
    },
    Toolchain {
        kind: "sbt",
        file: "build.sbt",
        program: "sbt",
        cmd: "sbt -no-server compile",
        run: "sbt -no-server run",
        extensions: &["scala", "sbt", "java"],
        made: &["target", "project/target"],
    },
    Toolchain {
        kind: "Leiningen",
        file: "project.clj",
        program: "lein",
        cmd: "",
        run: "lein run",
        extensions: &["clj", "cljc", "edn"],
        made: &["target"],
    },
    Toolchain {
        kind: "rebar3",
        file: "rebar.config",
        program: "rebar3",
        cmd: "rebar3 compile",
        run: "rebar3 shell",
        extensions: &["erl", "hrl", "src", "config"],
        made: &["_build"],
    },
    Toolchain {
        kind: "Crystal",
        file: "shard.yml",
        program: "shards",
        cmd: "shards build",
        run: "shards run",
        extensions: &["cr", "ecr", "yml"],
        made: &["bin", "lib"],
    },
    Toolchain {
        kind: "V",
        file: "v.mod",
        program: "v",
        cmd: "",
        run: "v run .",
        extensions: &["v"],
        made: &[],
    },
];

fn others(place: &Place<'_>) -> Outcome {
    let Some(one) = TOOLCHAINS.iter().find(|one| place.has(one.file)) else {
        return c_file(place);
    };
    needing(place, one.program, one.kind, one.file, || {
        let guess = Guess::new(one.kind, one.file);
        let guess = if one.cmd.is_empty() { guess } else { guess.builds(one.cmd) };
        guess.runs(one.run).watches(one.extensions).excludes(one.made)
    })
}

/// A language whose compiler makes a program of one file and what that names.
struct Compiler {
    kind: &'static str,
    tools: &'static [&'static str],
    files: &'static [&'static str],
    /// The options that name what is made.
    output: &'static str,
    extensions: &'static [&'static str],
}

const COMPILERS: [Compiler; 8] = [
    Compiler {
        kind: "Rust",
        tools: &["rustc"],
        files: &["main.rs"],
        output: "-g -o tmp/main",
        extensions: &["rs"],
    },
    Compiler {
        kind: "Zig",
        tools: &["zig"],
        files: &["main.zig", "src/main.zig"],
        output: "build-exe -femit-bin=tmp/main",
        extensions: &ZIG,
    },
    Compiler {
        kind: "D",
        tools: &["dmd", "ldc2", "gdc"],
        files: &["main.d", "app.d"],
        output: "-od=tmp -of=tmp/main -i",
        extensions: &["d"],
    },
    Compiler {
        kind: "Nim",
        tools: &["nim"],
        files: &["main.nim", "app.nim", "src/main.nim"],
        output: "c --hints:off --nimcache:tmp/nim -o:tmp/main",
        extensions: &["nim", "nims", "cfg"],
    },
    Compiler {
        kind: "Haskell",
        tools: &["ghc"],
        files: &["Main.hs", "main.hs", "app/Main.hs"],
        output: "-v0 -outputdir tmp/ghc -o tmp/main",
        extensions: &["hs", "lhs"],
    },
    Compiler {
        kind: "Crystal",
        tools: &["crystal"],
        files: &["main.cr", "app.cr", "server.cr", "src/main.cr"],
        output: "build -o tmp/main",
        extensions: &["cr", "ecr"],
    },
    Compiler {
        kind: "Fortran",
        tools: &["gfortran"],
        files: &["main.f90"],
        output: "-g -J tmp -o tmp/main",
        extensions: &["f90", "f"],
    },
    Compiler {
        kind: "Swift",
        tools: &["swiftc"],
        files: &["main.swift"],
        output: "-g -o tmp/main",
        extensions: &["swift"],
    },
];

/// A source of a language with a compiler, and nothing that says how it is built.
fn lone_source(place: &Place<'_>) -> Outcome {
    if MAKEFILES.iter().any(|name| place.has(name)) {
        return Outcome::Unknown;
    }
    if place.has("main.go") {
        let mut sources = place.ending_in(".go");
        sources.retain(|name| !name.ends_with("_test.go"));
        return needing(place, "go", "Go", "main.go", || {
            let sources = super::joined(sources.iter().map(String::as_str));
            Guess::new("Go", "main.go, without go.mod")
                .builds(format!("go build -o tmp/main {sources}"))
                .runs("tmp/main")
                .watches(&["go", "html", "tmpl"])
        });
    }
    for one in &COMPILERS {
        let Some(file) = place.first(one.files) else { continue };
        let tool = one.tools.iter().find(|tool| place.finds(tool)).unwrap_or(&one.tools[0]);
        return needing(place, tool, one.kind, file, || {
            // gdc has the options of gcc.
            let output = if *tool == "gdc" { "-g -o tmp/main" } else { one.output };
            Guess::new(one.kind, file)
                .builds(format!("mkdir -p tmp && {tool} {output} {file}"))
                .runs("tmp/main")
                .watches(one.extensions)
        });
    }
    Outcome::Unknown
}

const MAKEFILES: [&str; 3] = ["Makefile", "makefile", "GNUmakefile"];

/// C or C++ without anything that says how it is built.
fn c_file(place: &Place<'_>) -> Outcome {
    if MAKEFILES.iter().any(|name| place.has(name)) {
        return Outcome::Unknown;
    }
    let files = ["main.c", "main.cpp", "main.cc", "src/main.c", "src/main.cpp", "src/main.cc"];
    for file in files {
        let compiler = if file.ends_with("main.c") { "cc" } else { "c++" };
        if place.has(file) {
            let end = Path::new(file).extension().unwrap_or_default().to_string_lossy();
            return needing(place, compiler, "C", file, || {
                let sources = if file.starts_with("src/") { "src/*" } else { "*" };
                Guess::new("C", file)
                    .builds(format!(
                        "mkdir -p tmp && {compiler} -g -o tmp/main {sources}.{end} -lm"
                    ))
                    .runs("tmp/main")
                    .watches(&C)
            });
        }
    }
    Outcome::Unknown
}
