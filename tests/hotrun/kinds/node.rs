//! Node, Bun and Deno.

use super::{Kind, run_each};

const NODE: &str = "console.log('up WORD'); setInterval(() => {}, 1000);\n";

const KINDS: [Kind; 12] = [
    Kind {
        name: "a Node file",
        tools: &["node"],
        files: &[("server.js", NODE)],
        guess: "node server.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "a Node module",
        tools: &["node"],
        files: &[("index.mjs", NODE)],
        guess: "node index.mjs",
        broken: Some("import const;\n"),
    },
    Kind {
        name: "npm main",
        tools: &["node", "npm"],
        files: &[("lib.js", NODE), ("package.json", "{\"main\": \"lib.js\"}")],
        guess: "node lib.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "nodemon script",
        tools: &["node", "npm"],
        files: &[("a.js", NODE), ("package.json", "{\"scripts\": {\"dev\": \"nodemon -q a.js\"}}")],
        guess: "node a.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "node --watch script",
        tools: &["node", "npm"],
        files: &[
            ("a.js", NODE),
            ("package.json", "{\"scripts\": {\"start\": \"A=b node --watch a.js\"}}"),
        ],
        guess: "node a.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "build and run script",
        tools: &["node", "npm"],
        files: &[
            ("a.js", NODE),
            (
                "package.json",
                "{\"scripts\": {\"dev\": \"mkdir -p dist && cp a.js dist && node dist/a.js\"}}",
            ),
        ],
        guess: "mkdir -p dist && cp a.js dist, then node dist/a.js",
        broken: None,
    },
    Kind {
        name: "Deno",
        tools: &["deno"],
        files: &[
            ("main.ts", "console.log('up WORD'); setInterval(() => {}, 1000);\n"),
            ("deno.json", "{\"tasks\": {\"dev\": \"deno run --watch main.ts\"}}"),
        ],
        guess: "deno run main.ts",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "node --env-file script",
        tools: &["node", "npm"],
        files: &[
            ("a.js", NODE),
            (".env", "A=1\n"),
            ("package.json", "{\"scripts\": {\"dev\": \"node --env-file=.env --watch a.js\"}}"),
        ],
        guess: "node --env-file=.env a.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "npm workspace",
        tools: &["node", "npm"],
        files: &[
            ("packages/api/a.js", NODE),
            ("packages/api/package.json", "{\"scripts\": {\"dev\": \"nodemon a.js\"}}"),
            ("packages/lib/package.json", "{\"main\": \"x.js\"}"),
            ("package.json", "{\"workspaces\": [\"packages/*\"]}"),
        ],
        guess: "cd packages/api && exec node a.js",
        broken: None,
    },
    Kind {
        name: "script that calls another",
        tools: &["node", "npm"],
        files: &[
            ("a.js", NODE),
            (
                "package.json",
                "{\"scripts\": {\"dev\": \"npm run serve\", \"serve\": \"B=1 node a.js\"}}",
            ),
        ],
        guess: "node a.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "Bun",
        tools: &["bun"],
        files: &[
            ("index.ts", NODE),
            ("package.json", "{\"scripts\": {\"dev\": \"bun --watch index.ts\"}}"),
            ("bun.lock", ""),
        ],
        guess: "bun index.ts",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "a Deno file",
        tools: &["deno"],
        files: &[("main.ts", NODE), ("deno.json", "{}")],
        guess: "deno run -A main.ts",
        broken: Some("const = 1;\n"),
    },
];

#[test]
fn projects_of_node_run_and_their_new_code_runs_after_a_save() {
    run_each("projects_of_node_run_and_their_new_code_runs_after_a_save", &KINDS);
}
