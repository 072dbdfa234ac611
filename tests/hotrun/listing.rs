//! What a Go program is built from, as `go list` names it, decides what is watched.

use std::path::Path;

use crate::sandbox::{Hotrun, Sandbox, has};

const ANSWERED: &str = "go list has answered";

/// A module whose program prints what this expression says.
fn module(says: &str, imports: &str) -> Sandbox {
    Sandbox::empty()
        .env("HOTRUN_LOG", "hotrun::engine::listing=debug")
        .env("GOFLAGS", "-buildvcs=false")
        .env("GIT_CEILING_DIRECTORIES", "/")
        .file("app/go.mod", "module example.com/app\n\ngo 1.21\n")
        .file("app/main.go", &main(says, imports))
}

fn main(says: &str, imports: &str) -> String {
    format!(
        "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"time\"\n{imports})\n\nfunc main() {{\n\t\
         fmt.Printf(\"serving %s as %d\\n\", {says}, os.Getpid())\n\ttime.Sleep(time.Hour)\n}}\n"
    )
}

fn value(package: &str, version: &str) -> String {
    format!("package {package}\n\nconst V = \"{version}\"\n")
}

/// Starts hotrun in `app`, and waits for the first version and go's answer.
#[track_caller]
fn start(project: &Sandbox, first: &str, args: &[&str]) -> Hotrun {
    let mut hotrun = project.start(&[&["-C", "app"], args].concat());
    hotrun.wait_for_all(&[&serving(first), ANSWERED]);
    hotrun
}

fn serving(version: &str) -> String {
    format!("serving {version} as ")
}

/// Saves these, of which nothing follows, and then something of which this version does.
#[track_caller]
fn nothing_follows(
    project: &Sandbox,
    hotrun: &mut Hotrun,
    saved: &[(&str, &str)],
    then: (&str, &str, &str),
) {
    let before = hotrun.count("building");
    for (name, text) in saved {
        project.save(name, text);
    }
    project.save(then.0, then.1);
    hotrun.wait_serving(then.2);
    for (name, _) in saved {
        let name = Path::new(name).file_name().unwrap().to_str().unwrap();
        assert!(!hotrun.output().contains(name), "{name}:\n{}", hotrun.output());
    }
    assert_eq!(hotrun.count("building"), before + 1, "{}", hotrun.output());
}

#[test]
fn embedded_files_are_watched_and_so_are_new_ones_that_match() {
    if !has("embedded_files_are_watched", &["go"]) {
        return;
    }
    let embeds = "//go:embed static all:web db/*.sql testdata/x.txt\nvar files embed.FS\n\n";
    let all = "func all() (out string) {\n\tfs.WalkDir(files, \".\", func(path string, d \
               fs.DirEntry, _ error) error {\n\t\tif !d.IsDir() {\n\t\t\ttext, _ := \
               files.ReadFile(path)\n\t\t\tout += string(text)\n\t\t}\n\t\treturn nil\n\t})\n\t\
               return\n}\n";
    let project = module("all()", "")
        .file(
            "app/all.go",
            &format!("package main\n\nimport (\n\t\"embed\"\n\t\"io/fs\"\n)\n\n{embeds}{all}"),
        )
        .file("app/.gitignore", "web/\n")
        .file("app/db/a.sql", "d")
        .file("app/static/a.css", "s")
        .file("app/testdata/x.txt", "t")
        .file("app/web/.a", "w");
    project.sh("git init -q .");
    let mut hotrun = start(&project, "dstw", &[]);
    project.save("app/static/a.css", "S");
    hotrun.wait_serving("dStw");
    project.save("app/static/deep/new.txt", "N");
    hotrun.wait_serving("dSNtw");
    project.save("app/db/b.sql", "B");
    hotrun.wait_serving("dBSNtw");
    project.save("app/testdata/x.txt", "T");
    hotrun.wait_serving("dBSNTw");
    project.save("app/web/_x/.b", "X");
    hotrun.wait_serving("dBSNTwX");
    nothing_follows(
        &project,
        &mut hotrun,
        &[("app/static/.hidden", "h"), ("app/db/deep/no.sql", "n"), ("app/testdata/no.txt", "n")],
        ("app/db/a.sql", "D", "DBSNTwX"),
    );
    hotrun.end();
}

#[test]
fn go_is_asked_after_many_files_are_deleted_together_with_one_of_a_rule() {
    if !has("go_is_asked_after_many_files_are_deleted_together_with_one_of_a_rule", &["go"]) {
        return;
    }
    let rule = "[[build.rules]]\ninclude_ext = [\"css\"]\ncmd = \"true\"\n";
    let embeds = "package main\n\nimport \"embed\"\n\n//go:embed web\nvar files embed.FS\n";
    let project = module("\"one\"", "").file("app/embeds.go", embeds);
    let project = project.file("app/web/kept.txt", "").file("app/a.css", "");
    let project = project.file("app/hotrun.toml", rule);
    project.sh("cd app/web && for i in $(seq 600); do echo > $i.txt; done");
    let mut hotrun = start(&project, "one", &[]);
    project.sh("cd app && rm a.css web/[0-9]*");
    hotrun.wait_for_all(&[" rule ", &serving("one"), ANSWERED]);
    hotrun.end();
}

#[test]
fn a_replaced_module_outside_of_the_root_is_watched_through_its_errors() {
    if !has("a_replaced_module_outside", &["go"]) {
        return;
    }
    for args in [&[][..], &["--poll"]] {
        let project = module("lib.V + lib.Text", "\t\"example.com/lib/deep\"\n")
            .file("lib/go.mod", "module example.com/lib\n\ngo 1.21\n")
            .file("lib/deep/lib.go", &value("lib", "one"))
            .file(
                "lib/deep/text.go",
                "package lib\n\nimport _ \"embed\"\n\n//go:embed text/a.txt\nvar Text string\n",
            )
            .file("lib/deep/text/a.txt", "-a")
            .file("lib/other/other.go", &value("other", "one"));
        project.save(
            "app/go.mod",
            "module example.com/app\n\ngo 1.21\n\nrequire example.com/lib v0.0.0\n\nreplace \
             example.com/lib => ../lib\n",
        );
        let mut hotrun = start(&project, "one-a", args);
        project.save("lib/deep/lib.go", "package lib\n\nconst V = \"two\n");
        hotrun.wait_for_all(&["keeps running", ANSWERED]);
        project.save("lib/deep/lib.go", &value("lib", "two"));
        hotrun.wait_for_all(&[&serving("two-a"), ANSWERED]);
        project.save("lib/deep/text/a.txt", "-b");
        hotrun.wait_serving("two-b");
        project.save("lib/deep/new.go", "package lib\n\nfunc init() { Text += \"-new\" }\n");
        hotrun.wait_for_all(&[&serving("two-b-new"), ANSWERED]);
        project.sh("rm lib/deep/new.go");
        hotrun.wait_for_all(&[&serving("two-b"), ANSWERED]);
        nothing_follows(
            &project,
            &mut hotrun,
            &[("lib/other/other.go", "package other\n"), ("lib/deep/lib_test.go", "package lib\n")],
            ("lib/deep/lib.go", &value("lib", "three"), "three-b"),
        );
        hotrun.end();
    }
}

#[test]
fn a_package_matters_as_soon_and_as_long_as_it_is_imported() {
    if !has("a_package_matters_as_soon", &["go"]) {
        return;
    }
    let project = module("\"one\"", "")
        .file("app/late/late.go", &value("late", "late"))
        .file("app/cmd/other/main.go", "package main\n\nfunc main() {}\n")
        .file("app/x_windows.go", "package main\n");
    let mut hotrun = start(&project, "one", &[]);
    let (without, with) = (main("\"two\"", ""), main("late.V", "\t\"example.com/app/late\"\n"));
    nothing_follows(
        &project,
        &mut hotrun,
        &[
            ("app/late/late.go", &value("late", "late-two")),
            ("app/cmd/other/main_.go", "package main\n"),
            ("app/x_windows.go", "package main\n\n"),
        ],
        ("app/main.go", &without, "two"),
    );
    hotrun.wait_for(ANSWERED);
    project.save("app/main.go", &with);
    hotrun.wait_serving("late-two");
    // The answer may still be under way.
    project.save("app/late/late.go", &value("late", "late-three"));
    hotrun.wait_serving("late-three");
    project.save("app/main.go", &without);
    hotrun.wait_for_all(&[&serving("two"), "answered packages=1"]);
    nothing_follows(
        &project,
        &mut hotrun,
        &[("app/late/gone.go", "package late\n")],
        ("app/main.go", &main("\"three\"", ""), "three"),
    );
    hotrun.end();
}

#[test]
fn a_listing_with_an_error_falls_back_to_extensions() {
    if !has("a_listing_with_an_error", &["go"]) {
        return;
    }
    let project = module("\"one\"", "");
    let mut hotrun = start(&project, "one", &[]);
    project.save("app/main.go", &main("late.V", "\t\"example.com/app/late\"\n"));
    hotrun.wait_for_all(&["keeps running", ANSWERED]);
    project.save("app/late/late.go", &value("late", "late"));
    hotrun.wait_serving("late");
    hotrun.end();
}

#[test]
fn generated_code_that_git_ignores_and_code_behind_build_tags_is_watched() {
    if !has("generated_code_that_git_ignores", &["go"]) {
        return;
    }
    let project = module("gen.V", "\t\"example.com/app/gen\"\n")
        .env("GOFLAGS", "-buildvcs=false -tags=special")
        .file("app/.gitignore", "gen/\n")
        .file("app/gen/a.go", "//go:build !special\n\npackage gen\n\nconst V = \"none\"\n")
        .file("app/gen/b.go", &format!("//go:build special\n\n{}", value("gen", "one")))
        .file("app/gen/notes.html", "one");
    project.sh("git init -q .");
    let mut hotrun = start(&project, "one", &[]);
    nothing_follows(
        &project,
        &mut hotrun,
        &[("app/gen/notes.html", "two")],
        ("app/gen/b.go", &format!("//go:build special\n\n{}", value("gen", "two")), "two"),
    );
    hotrun.end();
}

#[test]
fn the_c_of_a_package_is_watched() {
    if !has("the_c_of_a_package_is_watched", &["go", "cc"]) {
        return;
    }
    let header = |version: &str| format!("#define V \"{version}\"\n");
    let project = module("v()", "")
        .env("CGO_ENABLED", "1")
        .file("app/v.go", "package main\n\n// #include \"v.h\"\nimport \"C\"\n\nfunc v() string { return C.V + C.GoString(C.w()) }\n")
        .file("app/v.h", &format!("{}char *w(void);\n", header("one")))
        .file("app/v.c", "#include \"v.h\"\nchar *w(void) { return \"-c\"; }\n");
    let mut hotrun = start(&project, "one-c", &[]);
    project.save("app/v.h", &format!("{}char *w(void);\n", header("two")));
    hotrun.wait_serving("two-c");
    project.save("app/v.c", "#include \"v.h\"\nchar *w(void) { return \"-d\"; }\n");
    hotrun.wait_serving("two-d");
    hotrun.end();
}

#[test]
fn a_workspace_is_a_go_project_and_its_used_modules_are_watched() {
    if !has("a_workspace_is_a_go_project", &["go"]) {
        return;
    }
    let project = module("shared.V", "\t\"example.com/shared\"\n")
        .file("go.work", "go 1.21\n\nuse (\n\t./app\n\t./libs/shared\n\t./services/web\n)\n")
        .file("libs/shared/go.mod", "module example.com/shared\n\ngo 1.21\n")
        .file("libs/shared/shared.go", &value("shared", "one"))
        .file("services/web/go.mod", "module example.com/web\n\ngo 1.21\n")
        .file("services/web/main.go", &main("\"web\"", ""))
        .file("services/web/index.html", "one");
    let run = |args: &[&str]| project.run(args);
    let (code, _, stderr) = run(&[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("several main packages to choose from: ./app, ./services/web"),
        "{stderr}"
    );
    for name in ["./libs/shared", "libs/shared", "shared"] {
        let (code, _, stderr) = run(&["-p", name]);
        assert_eq!(code, 2);
        assert!(stderr.contains("./libs/shared is package shared, not main"), "{stderr}");
    }
    for args in [["-p", "./services/web"], ["-p", "services/web"], ["-p", "web"], ["--bin", "web"]]
    {
        let (code, stdout, stderr) = run(&[&args[..], &["check"]].concat());
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("build  go build ./services/web"), "{args:?}: {stdout}");
    }
    // From the root, and from the module.
    for (place, args) in [(".", &["-p", "app"][..]), ("app", &[])] {
        project.save("libs/shared/shared.go", &value("shared", "one"));
        let mut hotrun = project.start(&[&["-C", place], args].concat());
        hotrun.wait_for_all(&[&serving("one"), ANSWERED]);
        nothing_follows(
            &project,
            &mut hotrun,
            &[("services/web/main.go", &main("\"web\"", "")), ("services/web/index.html", "two")],
            ("libs/shared/shared.go", &value("shared", "two"), "two"),
        );
        hotrun.end();
    }
}

#[test]
fn a_nested_module_is_watched_only_while_the_program_uses_it() {
    if !has("a_nested_module_is_watched_only", &["go"]) {
        return;
    }
    let project = module("\"one\"", "")
        .file("app/lib/go.mod", "module example.com/lib\n\ngo 1.21\n")
        .file("app/lib/lib.go", &value("lib", "lib"))
        .file("app/lib/page.html", "one");
    let mut hotrun = start(&project, "one", &[]);
    nothing_follows(
        &project,
        &mut hotrun,
        &[("app/lib/page.html", "two"), ("app/lib/lib.go", &value("lib", "lib-two"))],
        ("app/main.go", &main("\"two\"", ""), "two"),
    );
    // A worktree of another branch comes.
    project.save("work/go.mod", "module example.com/app\n\ngo 1.21\n");
    project.save("work/web/late.html", "one");
    project.sh("mv work app/work");
    let explain = |name: &str| project.run(&["-C", "app", "explain", &format!("app/{name}")]).1;
    assert!(explain("lib/page.html").contains("lib is a project of its own"));
    assert!(explain("work/web").contains("not watched: work is a project of its own"));
    project.save(
        "app/go.mod",
        "module example.com/app\n\ngo 1.21\n\nrequire example.com/lib v0.0.0\n\nreplace \
         example.com/lib => ./lib\n",
    );
    project.save("app/main.go", &main("lib.V", "\t\"example.com/lib\"\n"));
    hotrun.wait_serving("lib-two");
    project.save("app/lib/lib.go", &value("lib", "lib-three"));
    hotrun.wait_serving("lib-three");
    assert_eq!(
        explain("lib/lib.go"),
        "lib/lib.go: rebuild and restart: part of the program (go list)\n"
    );
    assert!(!hotrun.output().contains("late.html"), "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_cache_by_its_tag_is_not_watched() {
    let signature = "Signature: 8a477f597d28d172789f06886806bc55\n# by some tool\n";
    let project = Sandbox::new()
        .file("cache/CACHEDIR.TAG", signature)
        .file("cache/deep/one.txt", "one")
        .file("other/CACHEDIR.TAG", "no signature")
        .file("other/one.txt", "one");
    let (_, explained, _) =
        project.run(&["explain", "cache/deep/one.txt", "cache", "other/one.txt"]);
    assert_eq!(
        explained,
        "cache/deep/one.txt: ignored: cache holds caches, packages or build output \
         (CACHEDIR.TAG, CMakeCache.txt, Meson, pyvenv.cfg, composer)\n\
         cache: a directory, not watched: cache holds caches, packages or build output \
         (CACHEDIR.TAG, CMakeCache.txt, Meson, pyvenv.cfg, composer)\n\
         other/one.txt: rebuild and restart: extension listed in build.include_ext \
         (hotrun.toml:4)\n"
    );
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("cache/deep/one.txt", "two");
    project.sh("mkdir late && cp cache/CACHEDIR.TAG late && echo x > late/late.txt");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    assert!(!hotrun.output().contains("cache"), "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_directory_in_which_cmake_or_meson_builds_is_not_watched_and_one_with_sources_is() {
    let project = Sandbox::new()
        .file("build/CMakeCache.txt", "")
        .file("build/a.txt", "")
        .file("meson/meson-private/coredata.dat", "")
        .file("meson/a.txt", "")
        .file("in-source/CMakeCache.txt", "")
        .file("in-source/CMakeLists.txt", "")
        .file("in-source/a.txt", "");
    let words = ["explain", "build/a.txt", "meson/a.txt", "in-source/a.txt"];
    let (_, explained, _) = project.run(&words);
    let verdicts: Vec<bool> = explained.lines().map(|line| line.contains("ignored")).collect();
    assert_eq!(verdicts, [true, true, false], "{explained}");
}

#[test]
fn a_cmake_project_that_is_configured_already_is_built_once_for_each_save() {
    let name = "a_cmake_project_that_is_configured_already_is_built_once_for_each_save";
    if !has(name, &["cmake", "make", "cc"]) {
        return;
    }
    let lists = "cmake_minimum_required(VERSION 3.10)\nproject(app C)\n\
                 add_library(part STATIC lib/part.c)\n\
                 add_custom_command(OUTPUT made.h COMMAND sh -c \
                 \"echo '#define MADE' $(cat ${CMAKE_SOURCE_DIR}/made.txt) > made.h\" \
                 DEPENDS ${CMAKE_SOURCE_DIR}/made.txt VERBATIM)\n\
                 add_executable(app main.c made.h)\n\
                 target_include_directories(app PRIVATE ${CMAKE_BINARY_DIR})\n\
                 target_link_libraries(app part)\n";
    let config = "[build]\ncmd = \"cmake --build build\"\nentrypoint = [\"build/app\"]\n";
    let project = Sandbox::empty()
        .file("CMakeLists.txt", lists)
        .file("hotrun.toml", config)
        .file("made.txt", "1\n")
        .file("lib/part.c", "int part(void) { return 1; }\n")
        .file(
            "main.c",
            "#include <stdio.h>\n#include <unistd.h>\n#include \"made.h\"\nint part(void);\n\
             int main(void) { printf(\"serving %d-%d as %d\\n\", part(), MADE, getpid());\n\
             fflush(stdout); for (;;) pause(); }\n",
        );
    project.sh("cmake -S . -B build > cmake.log");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("serving 1-1 as");
    hotrun.wait_for("ready");
    for (number, version) in (2..6).enumerate() {
        project.save("lib/part.c", &format!("int part(void) {{ return {version}; }}\n"));
        hotrun.wait_for(&format!("serving {version}-{} as", version - 1));
        hotrun.wait_for("ready");
        project.save("made.txt", &format!("{version}\n"));
        hotrun.wait_for(&format!("serving {version}-{version} as"));
        hotrun.wait_for("ready");
        assert_eq!(hotrun.count("building"), 3 + 2 * number, "{}", hotrun.output());
    }
    hotrun.end();
}

#[test]
fn lists_hold_and_go_adds_only_what_lies_outside() {
    if !has("lists_hold_and_go_adds_only", &["go"]) {
        return;
    }
    let air = "[build]\ncmd = \"go build -o ./tmp/main .\"\nbin = \"./tmp/main\"\n\
               include_ext = [\"go\"]\nexclude_dir = [\"tmp\", \"gen\", \"../lib/out\"]\ndelay = 0\n";
    let project = module("lib.V + gen.V", "\t\"example.com/lib\"\n\t\"example.com/app/gen\"\n")
        .file("app/.air.toml", air)
        .file("app/gen/gen.go", &value("gen", "-g"))
        .file("app/cmd/other/main.go", "package main\n\nfunc main() {}\n")
        .file("lib/go.mod", "module example.com/lib\n\ngo 1.21\n")
        .file(
            "lib/lib.go",
            "package lib\n\nimport \"example.com/lib/out\"\n\nconst V = \"one\" + out.V\n",
        )
        .file("lib/out/out.go", &value("out", "-o"));
    project.save(
        "app/go.mod",
        "module example.com/app\n\ngo 1.21\n\nrequire example.com/lib v0.0.0\n\nreplace \
         example.com/lib => ../lib\n",
    );
    let mut hotrun = start(&project, "one-o-g", &[]);
    nothing_follows(
        &project,
        &mut hotrun,
        &[
            ("app/gen/gen.go", &value("gen", "-h")),
            ("lib/out/out.go", &value("out", "-p")),
            ("lib/lib_test.go", "package lib\n"),
        ],
        (
            "lib/lib.go",
            "package lib\n\nimport \"example.com/lib/out\"\n\nconst V = \"two\" + out.V\n",
            "two-p-h",
        ),
    );
    // The list says go, so every Go file below the root is one.
    project.save("app/cmd/other/main.go", "package main\n\nfunc main() { }\n");
    hotrun.wait_for("changed  cmd/other/main.go");
    hotrun.end();
}

#[test]
fn a_library_archive_is_no_program() {
    if !has("a_library_archive_is_no_program", &["go"]) {
        return;
    }
    let config = "[build]\ncmd = \"go build -o tmp/main ./lib\"\nentrypoint = \"tmp/main\"\n";
    let project = module("\"one\"", "")
        .file("app/lib/lib.go", &value("lib", "lib"))
        .file("app/hotrun.toml", config);
    let mut hotrun = project.start(&["-C", "app"]);
    hotrun.wait_for("is a library archive, not a program");
    hotrun.end();
    let (code, _, stderr) = project.run(&["-C", "app", "--no-config", "-p", "lib"]);
    assert_eq!(
        (code, stderr.as_str()),
        (2, "hotrun: -p lib: ./lib is package lib, not main\n  help: available: .\n")
    );
}

#[test]
fn debug_information_is_not_compressed_unless_ldflags_are_given() {
    if !has("debug_information_is_not_compressed", &["go"]) {
        return;
    }
    let project = module("\"one\"", "");
    let check = |args: &[&str]| project.run(&[&["-C", "app", "check"], args].concat()).1;
    assert!(check(&[]).contains("with -ldflags=-compressdwarf=false (run.debug)"));
    assert!(check(&["--run.debug", "off"]).contains("with -ldflags=-w (run.debug)"));
    let project = module("\"one\"", "").env("GOFLAGS", "-buildvcs=false -ldflags=-s");
    let (_, shown, _) = project.run(&["-C", "app", "check", "--run.debug", "off"]);
    assert!(!shown.contains("with -ldflags"), "{shown}");
    assert!(shown.contains("run.debug has no effect: GOFLAGS"), "{shown}");
}

#[test]
fn a_nested_package_that_a_cargo_program_does_not_use_is_not_watched() {
    if !has("a_nested_package_that_a_cargo", &["cargo"]) {
        return;
    }
    let package = |name: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n"
        )
    };
    let project = Sandbox::empty()
        .file("Cargo.toml", &package("app"))
        .file("src/main.rs", "fn main() {}\n")
        .file("fuzz/Cargo.toml", &package("fuzz"))
        .file("fuzz/src/main.rs", "fn main() {}\n")
        .file("templates/x/a.rs", "");
    let explain = |name: &str| project.run(&["explain", name]).1;
    assert_eq!(
        explain("fuzz/src/main.rs"),
        "fuzz/src/main.rs: ignored: fuzz is a project of its own that the program does not \
         use\n"
    );
    assert!(explain("templates/x/a.rs").contains("rebuild"));
    project.save(
        "Cargo.toml",
        &format!(
            "{}[dependencies]\nfuzz = {{ path = \"fuzz\" }}\n",
            package("app").replace("\n[workspace]\n", "")
        ),
    );
    project.save("fuzz/Cargo.toml", &package("fuzz").replace("\n[workspace]\n", ""));
    project.save("fuzz/src/lib.rs", "");
    assert!(explain("fuzz/src/main.rs").contains("rebuild"), "{}", explain("fuzz/src/main.rs"));
}
