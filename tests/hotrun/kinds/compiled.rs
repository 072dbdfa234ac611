//! Languages with a compiler.

use super::{Kind, run_each};

const C: &str = "#include <stdio.h>\n#include <unistd.h>\n\
                 int main(void) { puts(\"up WORD\"); fflush(stdout); for (;;) pause(); }\n";

const KINDS: [Kind; 22] = [
    Kind {
        name: "a C file",
        tools: &["cc"],
        files: &[("main.c", C)],
        guess: "tmp/main",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "C in src",
        tools: &["cc"],
        files: &[("src/main.c", C)],
        guess: "tmp/main",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "make",
        tools: &["make", "cc"],
        files: &[
            ("x.c", C),
            ("Makefile", "build: app\napp: x.c\n\tcc -o app x.c\nrun:\n\t./app\n"),
        ],
        guess: "make build, then make run",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "make, whose default runs",
        tools: &["make", "cc"],
        files: &[
            ("x.c", C),
            ("Makefile", "all: app run\napp: x.c\n\tcc -o app x.c\nrun: app\n\t./app\n"),
        ],
        guess: "make app, then make run",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "CMake",
        tools: &["cmake", "make", "cc"],
        files: &[
            ("main.c", C),
            (
                "CMakeLists.txt",
                "cmake_minimum_required(VERSION 3.10)\nproject(shop C)\nadd_executable(till main.c)\n",
            ),
        ],
        guess: "build/till",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "Meson",
        tools: &["meson", "ninja", "cc"],
        files: &[
            ("main.c", C),
            ("meson.build", "project('shop', 'c')\nexecutable('till', 'main.c')\n"),
        ],
        guess: "build/till",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "a Java file",
        tools: &["java", "javac"],
        files: &[(
            "Main.java",
            "class Main { public static void main(String[] a) throws Exception {\n\
             System.out.println(\"up WORD\"); Thread.sleep(1000000); } }\n",
        )],
        guess: "java Main.java",
        broken: None,
    },
    Kind {
        name: "C++",
        tools: &["c++"],
        files: &[(
            "main.cpp",
            "#include <iostream>\n#include <unistd.h>\nint main() { std::cout << \"up WORD\" << std::endl; for (;;) pause(); }\n",
        )],
        guess: "tmp/main",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "make, whose run starts a file",
        tools: &["make", "cc"],
        files: &[("x.c", C), ("Makefile", "run:\n\t./app\napp: x.c\n\tcc -o app x.c\n")],
        guess: "make app, then make run",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "several Java files",
        tools: &["java", "javac"],
        files: &[
            (
                "Main.java",
                "class Main { public static void main(String[] a) throws Exception {\nSystem.out.println(\"up WORD\"); Thread.sleep(1000000); } }\n",
            ),
            ("Other.java", "class Other {}\n"),
        ],
        guess: "javac -d tmp/classes",
        broken: Some("class {\n"),
    },
    Kind {
        name: "Gradle",
        tools: &["gradle", "java", "javac"],
        files: &[
            (
                "src/main/java/Main.java",
                "class Main { public static void main(String[] a) throws Exception {\nSystem.out.println(\"up WORD\"); Thread.sleep(1000000); } }\n",
            ),
            (
                "build.gradle",
                "apply plugin: 'java'\napply plugin: 'application'\nmainClassName = 'Main'\n",
            ),
            ("settings.gradle", "rootProject.name = 'shop'\n"),
        ],
        guess: "build/install/shop/bin/shop",
        broken: Some("class {\n"),
    },
    Kind {
        name: "Cargo",
        tools: &["cargo"],
        files: &[
            ("src/main.rs", "fn main() { println!(\"up WORD\"); loop { std::thread::park(); } }\n"),
            (
                "Cargo.toml",
                "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
            ),
        ],
        guess: "",
        broken: Some("fn main( {}\n"),
    },
    Kind {
        name: "Go",
        tools: &["go"],
        files: &[
            (
                "main.go",
                "package main\n\nimport (\n\t\"fmt\"\n\t\"time\"\n)\n\nfunc main() {\n\tfmt.Println(\"up WORD\")\n\ttime.Sleep(time.Hour)\n}\n",
            ),
            ("go.mod", "module shop\n\ngo 1.20\n"),
        ],
        guess: "",
        broken: Some("package main\nfunc main( {}\n"),
    },
    Kind {
        name: "a Go file",
        tools: &["go"],
        files: &[(
            "main.go",
            "package main\n\nimport (\n\t\"fmt\"\n\t\"time\"\n)\n\nfunc main() {\n\tfmt.Println(\"up WORD\")\n\ttime.Sleep(time.Hour)\n}\n",
        )],
        guess: "go build -o tmp/main main.go, then tmp/main",
        broken: Some("package main\nfunc main( {}\n"),
    },
    Kind {
        name: "a Rust file",
        tools: &["rustc"],
        files: &[(
            "main.rs",
            "fn main() { println!(\"up WORD\"); loop { std::thread::park(); } }\n",
        )],
        guess: "rustc",
        broken: Some("fn main( {}\n"),
    },
    Kind {
        name: "Haskell",
        tools: &["ghc"],
        files: &[(
            "Main.hs",
            "import Control.Concurrent\nimport System.IO\nmain = do { putStrLn \"up WORD\"; hFlush stdout; threadDelay 1000000000 }\n",
        )],
        guess: "tmp/main",
        broken: Some("main = do {\n"),
    },
    Kind {
        name: "Nim",
        tools: &["nim"],
        files: &[("main.nim", "import os\necho \"up WORD\"\nflushFile(stdout)\nsleep(1000000)\n")],
        guess: "tmp/main",
        broken: Some("proc (\n"),
    },
    Kind {
        name: "Crystal",
        tools: &["crystal"],
        files: &[("main.cr", "puts \"up WORD\"\nSTDOUT.flush\nsleep\n")],
        guess: "tmp/main",
        broken: Some("def (\n"),
    },
    Kind {
        name: "Fortran",
        tools: &["gfortran"],
        files: &[(
            "main.f90",
            "program main\n  print \"(a)\", \"up WORD\"\n  flush(6)\n  call sleep(1000)\nend program\n",
        )],
        guess: "tmp/main",
        broken: Some("program (\n"),
    },
    Kind {
        name: "D",
        tools: &["ldc2"],
        files: &[(
            "main.d",
            "import std.stdio, core.thread;\nvoid main() { writeln(\"up WORD\"); stdout.flush(); Thread.sleep(1000.seconds); }\n",
        )],
        guess: "tmp/main",
        broken: Some("void main(\n"),
    },
    Kind {
        name: "dune",
        tools: &["dune", "ocamlc"],
        files: &[
            (
                "bin/main.ml",
                "let () = print_endline \"up WORD\"; while true do ignore (Unix.sleep 1000) done\n",
            ),
            ("bin/dune", "(executable (name main) (libraries unix))\n"),
            ("dune-project", "(lang dune 2.0)\n"),
        ],
        guess: "_build/default/bin/main.exe",
        broken: Some("let (\n"),
    },
    Kind {
        name: "Mix",
        tools: &["mix"],
        files: &[
            (
                "lib/shop.ex",
                "defmodule Shop do\n  use Application\n  def start(_, _) do\n    IO.puts(\"up WORD\")\n    Task.start_link(fn -> Process.sleep(:infinity) end)\n  end\nend\n",
            ),
            (
                "mix.exs",
                "defmodule Shop.MixProject do\n  use Mix.Project\n  def project, do: [app: :shop, version: \"0.1.0\"]\n  def application, do: [mod: {Shop, []}]\nend\n",
            ),
        ],
        guess: "mix compile, then mix run --no-halt --no-compile",
        broken: Some("defmodule (\n"),
    },
];

#[test]
fn compiled_programs_run_and_their_new_code_runs_after_a_save() {
    run_each("compiled_programs_run_and_their_new_code_runs_after_a_save", &KINDS);
}
