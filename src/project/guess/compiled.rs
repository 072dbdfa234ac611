//! Languages with a build: Java, .NET, Zig, C and C++ with `CMake`, Meson or make, and others.

use std::path::{Path, PathBuf};

use super::scripting::needing;
use super::{Guess, Outcome, Place, not_installed};

const JAVA: [&str; 7] = ["java", "kt", "scala", "groovy", "xml", "properties", "yml"];
const C: [&str; 10] = ["c", "h", "cc", "cpp", "cxx", "hh", "hpp", "hxx", "txt", "cmake"];
/// Maximum depth of the directories below `src/main/java` that are looked through.
const MAX_DEPTH: usize = 8;

pub(super) fn guess(place: &Place<'_>) -> Outcome {
    let kinds: [fn(&Place<'_>) -> Outcome; 5] = [java, dotnet, zig, cmake, others];
    kinds
        .iter()
        .map(|kind| kind(place))
        .find(|found| *found != Outcome::Unknown)
        .unwrap_or(Outcome::Unknown)
}

fn java(place: &Place<'_>) -> Outcome {
    if place.has("pom.xml") {
        return maven(place);
    }
    let gradle = place.first(&["build.gradle.kts", "build.gradle"]);
    if let Some(file) = gradle {
        return with_gradle(place, file);
    }
    if let Some(file) = place.first(&["Main.java", "App.java", "Server.java"]) {
        return needing(place, "java", "Java", file, || {
            Guess::new("Java", file).runs(format!("java {file}")).watches(&["java"])
        });
    }
    Outcome::Unknown
}

fn maven(place: &Place<'_>) -> Outcome {
    let text = place.read("pom.xml");
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
                .reloads_itself(&["pom.xml"])
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
    let each = mains.into_iter().map(|main| {
        let kind = if text.contains("spring-boot") { "Spring Boot" } else { "Maven" };
        if has_dependencies {
            let list = "target/hotrun.classpath";
            guess(kind)
                .builds(format!(
                    "{mvn} -q compile dependency:build-classpath -Dmdep.outputFile={list}"
                ))
                .runs(format!("exec java -cp \"target/classes:$(cat {list})\" {main}"))
        } else {
            guess(kind)
                .builds(format!("{mvn} -q compile"))
                .runs(format!("java -cp target/classes {main}"))
        }
    });
    one_of(each.collect(), || Outcome::Unable {
        reason:
            "this is a Maven project (pom.xml), and no class in src/main/java has a main method"
                .to_owned(),
        remedy: "name the commands in hotrun.toml: [build] cmd and entrypoint".to_owned(),
    })
}

fn with_gradle(place: &Place<'_>, file: &str) -> Outcome {
    let gradle = if place.has("gradlew") { "./gradlew" } else { "gradle" };
    if gradle == "gradle" && !place.finds("gradle") {
        return not_installed("Gradle", file, "gradle");
    }
    let text = place.read(file);
    let settings = place.read("settings.gradle") + &place.read("settings.gradle.kts");
    let name = settings
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rootProject.name"))
        .find_map(|rest| rest.split(['"', '\'']).nth(1).map(str::to_owned))
        .unwrap_or_else(|| place.name());
    // A daemon would outlive hotrun.
    let quiet = format!("{gradle} --no-daemon -q");
    let guess = |kind| Guess::new(kind, file).watches(&JAVA).excludes(&["build", ".gradle"]);
    if text.contains("org.springframework.boot") {
        return guess("Spring Boot")
            .builds(format!("{quiet} bootJar"))
            .runs("exec java -jar $(ls build/libs/*.jar | grep -v plain | head -n 1)")
            .found();
    }
    let plugins =
        ["id(\"application\")", "id 'application'", "id \"application\"", "'application'"];
    let applies =
        |line: &str| line.trim() == "application" || plugins.iter().any(|one| line.contains(one));
    if text.lines().any(applies) {
        return guess("Gradle")
            .builds(format!("{quiet} installDist"))
            .runs(format!("build/install/{name}/bin/{name}"))
            .found();
    }
    Outcome::Unable {
        reason: format!("this is a Gradle project ({file}) without the application plugin"),
        remedy: "name the commands in hotrun.toml: [build] cmd and entrypoint".to_owned(),
    }
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
                if place.read(&name.to_string_lossy()).contains("static void main(") {
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
            .watches(&["cs", "fs", "vb", "csproj", "fsproj", "razor", "cshtml", "json"])
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
    let guess = Guess::new("Zig", "build.zig").builds("zig build").excludes(&["zig-out"]);
    needing(place, "zig", "Zig", "build.zig", || match name {
        Some(name) => guess.runs(format!("zig-out/bin/{name}")).watches(&["zig", "zon", "c", "h"]),
        None => guess.runs("zig build run").watches(&["zig", "zon", "c", "h"]),
    })
}

fn cmake(place: &Place<'_>) -> Outcome {
    let text = place.read("CMakeLists.txt");
    if !text.is_empty() {
        if !place.finds("cmake") {
            return not_installed("CMake", "CMakeLists.txt", "cmake");
        }
        let project = first_argument(&text, "project(").unwrap_or_default();
        let names = arguments(&text, "add_executable(")
            .map(|name| name.replace("${PROJECT_NAME}", &project))
            .filter(|name| !name.contains('$'));
        let each = names.map(|name| {
            Guess::new("CMake", "CMakeLists.txt")
                .builds("cmake -S . -B build && cmake --build build")
                .runs(format!("build/{name}"))
                .watches(&C)
                .excludes(&["build"])
        });
        return one_of(each.collect(), || Outcome::Unable {
            reason:
                "this is a CMake project (CMakeLists.txt), and its top level defines no program"
                    .to_owned(),
            remedy: "name the commands in hotrun.toml: [build] cmd and entrypoint".to_owned(),
        });
    }
    let text = place.read("meson.build");
    if text.is_empty() {
        return Outcome::Unknown;
    }
    if !place.finds("meson") {
        return not_installed("Meson", "meson.build", "meson");
    }
    let each = arguments(&text, "executable(").map(|name| {
        let name = name.trim_matches('\'').to_owned();
        Guess::new("Meson", "meson.build")
            .builds("test -d build || meson setup build; meson compile -C build")
            .runs(format!("build/{name}"))
            .watches(&[&C[..], &["build"]].concat())
            .excludes(&["build"])
    });
    one_of(each.collect(), || Outcome::Unknown)
}

/// The first word behind each call of this function.
fn arguments<'a>(text: &'a str, call: &'a str) -> impl Iterator<Item = String> + 'a {
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let code: Vec<&str> = code.collect();
    let code = code.join("\n");
    let calls: Vec<String> = code
        .split(call)
        .skip(1)
        .filter_map(|rest| {
            let word = rest.trim_start().split([' ', '\n', ')', ',']).next()?;
            (!word.is_empty()).then(|| word.to_owned())
        })
        .collect();
    calls.into_iter()
}

fn first_argument(text: &str, call: &str) -> Option<String> {
    arguments(text, call).next()
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
const TOOLCHAINS: [Toolchain; 11] = [
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
        kind: "dune",
        file: "dune-project",
        program: "dune",
        cmd: "dune build",
        run: "dune exec --no-build .",
        extensions: &["ml", "mli", "dune", "opam"],
        made: &["_build"],
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

/// C or C++ without anything that says how it is built.
fn c_file(place: &Place<'_>) -> Outcome {
    if ["Makefile", "makefile", "GNUmakefile"].iter().any(|name| place.has(name)) {
        return Outcome::Unknown;
    }
    for (file, compiler) in [("main.c", "cc"), ("main.cpp", "c++"), ("main.cc", "c++")] {
        if place.has(file) {
            let end = Path::new(file).extension().unwrap_or_default().to_string_lossy();
            let output = PathBuf::from("tmp").join("main");
            return needing(place, compiler, "C", file, || {
                Guess::new("C", file)
                    .builds(format!("mkdir -p tmp && {compiler} -g -o tmp/main *.{end}"))
                    .runs(output.to_string_lossy())
                    .watches(&C)
            });
        }
    }
    Outcome::Unknown
}

fn one_of(mut all: Vec<Guess>, none: impl FnOnce() -> Outcome) -> Outcome {
    match all.len() {
        0 => none(),
        1 => all.remove(0).found(),
        _ => Outcome::Several(all),
    }
}
