//! Every key of the configuration, declared once: the schema, hints for unknown keys, completions
//! and the test of `air.example.toml` come from here. A test holds what the reader asks for against
//! it.

use super::duration::Bare;

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// With its table, such as `build.cmd`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The default where no kind of project says otherwise, as TOML.
    pub(crate) default: &'static str,
    pub(crate) of: Of,
    pub(crate) takes: Takes,
    pub(crate) about: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Texts,
    /// A program with its arguments in one text, or a list of both.
    Command,
    Boolean,
    Number {
        min: u16,
        max: u16,
    },
    /// What a number without a unit means in air's files.
    Duration(Bare),
    OneOf(&'static [&'static str]),
    Color,
    Signal,
    /// A number, or this word.
    PortOr(&'static str),
    /// A port, or an address with one.
    Address,
    /// A table of path prefixes and ports.
    Routes,
    /// True, or a table of two files.
    Tls,
}

/// Which tool defines the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// air's, and so hotrun's.
    Air,
    Hotrun,
    /// Another name for a key of air's that its users write, understood but not recommended.
    Alias,
}

/// What follows when the value changes while hotrun runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// The value is used from now on; nothing is built or started for it.
    AtOnce,
    /// The program is built and started again.
    Rebuild,
}

impl Key {
    /// Whether it is one that people should write.
    pub(crate) fn is_recommended(&self) -> bool {
        self.of != Alias
    }

    /// The keys outside of lists of tables that people should write.
    pub(crate) fn recommended() -> impl Iterator<Item = &'static Self> {
        KEYS.iter().filter(|key| key.is_recommended())
    }
}

impl Kind {
    /// Whether a value may be a table, whose keys are no keys of the configuration.
    pub(crate) fn is_table(self) -> bool {
        matches!(self, Routes | Tls)
    }

    /// The words that a value can be, if it is one of a few.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            OneOf(words) => words,
            Boolean => &["true", "false"],
            Color => &COLORS,
            Text
            | Texts
            | Command
            | Number { .. }
            | Duration(_)
            | Signal
            | PortOr(_)
            | Address
            | Routes
            | Tls => &[],
        }
    }
}

/// The colours that air knows; any other is white.
pub(crate) const COLORS: [&str; 8] =
    ["red", "green", "yellow", "blue", "magenta", "cyan", "white", "raw"];

const fn key(
    of: Of,
    takes: Takes,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { name, kind, default, of, takes, about }
}

const fn alias(name: &'static str, kind: Kind, about: &'static str) -> Key {
    key(Alias, Rebuild, name, kind, "", about)
}

use Kind::{
    Address, Boolean, Color, Command, Duration, Number, OneOf, PortOr, Routes, Signal, Text, Texts,
    Tls,
};
use Of::{Air, Alias, Hotrun};
use Takes::{AtOnce, Rebuild};

const PORT: Kind = Number { min: 0, max: u16::MAX };
const MILLISECONDS: Kind = Duration(Bare::Milliseconds);
const OWN: Kind = Duration(Bare::NeedsUnit);

/// The keys outside of lists of tables, in the order of `air.example.toml`.
pub(crate) const KEYS: &[Key] = &[
    key(
        Air,
        Rebuild,
        "root",
        Text,
        "\".\"",
        "What is watched; relative to the directory in which hotrun starts.",
    ),
    key(Air, Rebuild, "tmp_dir", Text, "\"tmp\"", "Directory for build output. Never watched."),
    key(
        Air,
        AtOnce,
        "testdata_dir",
        Text,
        "\"\"",
        "A directory below root that is never watched (air's files: \"testdata\").",
    ),
    key(
        Air,
        Rebuild,
        "env_files",
        Texts,
        "[]",
        "Files of variables for builds and the program, relative to root. Later files override earlier ones.",
    ),
    key(
        Hotrun,
        Rebuild,
        "spare",
        Texts,
        "[\"...\"]",
        "Processes that may outlive a build or the program: globs on full command lines; \"!\" negates.",
    ),
    key(
        Air,
        Rebuild,
        "build.pre_cmd",
        Texts,
        "[]",
        "Shell commands that run before each build, in this order.",
    ),
    key(
        Air,
        Rebuild,
        "build.cmd",
        Text,
        "\"\"",
        "The build, as a shell command (Cargo: cargo build; Go: go build; otherwise none).",
    ),
    key(
        Air,
        Rebuild,
        "build.post_cmd",
        Texts,
        "[]",
        "Shell commands that run once, when hotrun is stopped, before the program is.",
    ),
    key(
        Air,
        Rebuild,
        "build.entrypoint",
        Command,
        "[]",
        "The program and its arguments, run without a shell.",
    ),
    key(
        Air,
        Rebuild,
        "build.bin",
        Text,
        "\"\"",
        "The program as one path (air's older key; entrypoint overrides it).",
    ),
    key(
        Air,
        Rebuild,
        "build.full_bin",
        Text,
        "\"\"",
        "The program as a shell command. Overrides entrypoint and bin.",
    ),
    key(
        Air,
        Rebuild,
        "build.args_bin",
        Texts,
        "[]",
        "Arguments for the program, after those of entrypoint.",
    ),
    key(
        Air,
        Rebuild,
        "build.log",
        Text,
        "\"\"",
        "File in tmp_dir for the output of the last failed build (air's files: \"build-errors.log\").",
    ),
    key(
        Air,
        AtOnce,
        "build.include_ext",
        Texts,
        "[\"*\"]",
        "Extensions of files that matter; \"*\" for all.",
    ),
    key(
        Air,
        AtOnce,
        "build.include_file",
        Texts,
        "[]",
        "Files that matter whatever their extension.",
    ),
    key(
        Air,
        AtOnce,
        "build.include_dir",
        Texts,
        "[]",
        "Watch only these directories. Some may lie outside root.",
    ),
    key(Air, AtOnce, "build.exclude_dir", Texts, "[]", "Directories that are not watched."),
    key(
        Air,
        AtOnce,
        "build.exclude_file",
        Texts,
        "[]",
        "Globs of files, relative to root, that do not matter.",
    ),
    key(
        Air,
        AtOnce,
        "build.exclude_regex",
        Texts,
        "[]",
        "Regular expressions on the absolute path of files that do not matter.",
    ),
    key(
        Air,
        AtOnce,
        "build.exclude_unchanged",
        Boolean,
        "false",
        "Ignore a save that leaves a file as it was at the last build.",
    ),
    key(
        Air,
        AtOnce,
        "build.follow_symlink",
        Boolean,
        "false",
        "Watch the directories to which symbolic links lead.",
    ),
    key(
        Air,
        AtOnce,
        "build.poll",
        Boolean,
        "false",
        "Poll for changes instead of using file system events (as watch.backend = \"poll\").",
    ),
    key(
        Air,
        AtOnce,
        "build.poll_interval",
        MILLISECONDS,
        "0",
        "Interval between polls, at least 50 ms; 0: chosen by how long a poll takes.",
    ),
    key(
        Air,
        Rebuild,
        "build.delay",
        MILLISECONDS,
        "0",
        "Minimum time between the starts of two builds.",
    ),
    key(
        Air,
        Rebuild,
        "build.kill_delay",
        Duration(Bare::Nanoseconds),
        "\"5s\"",
        "Grace period of the program before it is killed.",
    ),
    key(
        Hotrun,
        Rebuild,
        "build.cancel_grace",
        OWN,
        "\"1s\"",
        "Grace period of a build that a newer save cancels.",
    ),
    key(
        Air,
        Rebuild,
        "build.send_interrupt",
        Boolean,
        "false",
        "Stop the program by SIGINT instead of SIGTERM.",
    ),
    key(
        Hotrun,
        Rebuild,
        "build.check",
        Boolean,
        "true",
        "Where nothing is built: check the syntax of changed files before a restart.",
    ),
    key(
        Air,
        Rebuild,
        "build.stop_on_error",
        Boolean,
        "false",
        "Stop the program when a build fails, instead of keeping the last good one running.",
    ),
    key(
        Air,
        Rebuild,
        "build.rerun",
        Boolean,
        "false",
        "Start the program again whenever it exits.",
    ),
    key(Air, Rebuild, "build.rerun_delay", MILLISECONDS, "\"500ms\"", "Pause before that."),
    key(
        Air,
        AtOnce,
        "build.ignore_dangerous_root_dir",
        Boolean,
        "false",
        "Watch even / or the home directory.",
    ),
    key(
        Hotrun,
        AtOnce,
        "watch.include",
        Texts,
        "[]",
        "Globs of files that matter, relative to root; ** crosses directories.",
    ),
    key(
        Hotrun,
        AtOnce,
        "watch.exclude",
        Texts,
        "[]",
        "Globs of files that do not matter, relative to root.",
    ),
    key(
        Hotrun,
        AtOnce,
        "watch.gitignore",
        Boolean,
        "true",
        "Ignore what .gitignore, .ignore and the global excludes name (air's files: false).",
    ),
    key(
        Hotrun,
        AtOnce,
        "watch.backend",
        OneOf(&["auto", "native", "poll"]),
        "\"auto\"",
        "How changes are found: by events, by polling, or by what the file system supports.",
    ),
    key(
        Hotrun,
        AtOnce,
        "watch.debounce",
        OWN,
        "\"10ms\"",
        "Quiet time that ends a burst of saves.",
    ),
    key(Hotrun, AtOnce, "watch.max_wait", OWN, "\"2s\"", "Maximum duration of a burst of saves."),
    key(
        Hotrun,
        Rebuild,
        "run.mode",
        OneOf(&["restart", "handover"]),
        "\"restart\"",
        "Start the new program after the old one is gone, or beside it until it is ready.",
    ),
    key(
        Hotrun,
        Rebuild,
        "run.on_failed_start",
        OneOf(&["wait", "rollback"]),
        "\"wait\"",
        "When a new program fails to start: wait for a save, or start the last good build again.",
    ),
    key(
        Hotrun,
        Rebuild,
        "run.restart_unchanged",
        Boolean,
        "false",
        "Restart the program even if the build leaves it byte for byte as it was.",
    ),
    key(
        Hotrun,
        Rebuild,
        "run.port",
        PortOr("auto"),
        "0",
        "The TCP port on which the program listens; \"auto\": a free one, passed in PORT.",
    ),
    key(Hotrun, Rebuild, "run.signal", Signal, "\"TERM\"", "The signal that stops the program."),
    key(
        Hotrun,
        Rebuild,
        "run.stop_scope",
        OneOf(&["group", "leader"]),
        "\"group\"",
        "Which processes get that signal: the program's process group, or its first process.",
    ),
    key(
        Hotrun,
        Rebuild,
        "run.stdin",
        OneOf(&["auto", "app", "null"]),
        "\"auto\"",
        "Which process reads the terminal: hotrun until the program wants to, the program, or hotrun.",
    ),
    key(
        Hotrun,
        Rebuild,
        "run.tty",
        OneOf(&["inherit", "pty"]),
        "\"inherit\"",
        "Where the program prints: to hotrun's own terminal or pipe, or to a terminal that hotrun copies.",
    ),
    key(
        Hotrun,
        Rebuild,
        "run.debug",
        OneOf(&["on", "off"]),
        "\"on\"",
        "Debug information in a Go program that hotrun builds without build.cmd.",
    ),
    key(
        Hotrun,
        Rebuild,
        "run.on_exit",
        OneOf(&["wait", "restart", "quit"]),
        "\"wait\"",
        "When the program exits: wait for a save, restart it, or exit with its code.",
    ),
    key(
        Hotrun,
        AtOnce,
        "run.revive_ext",
        Texts,
        "[]",
        "A save of such a file starts the program if it has exited or crashed.",
    ),
    key(
        Hotrun,
        Rebuild,
        "ready.notify",
        Boolean,
        "false",
        "The program is ready when it has sent READY=1 to $NOTIFY_SOCKET.",
    ),
    key(
        Hotrun,
        Rebuild,
        "ready.http",
        Text,
        "\"\"",
        "The program is ready when this URL is answered.",
    ),
    key(
        Hotrun,
        Rebuild,
        "ready.status",
        Number { min: 0, max: 599 },
        "0",
        "The status of that answer; 0: any below 400.",
    ),
    key(
        Hotrun,
        Rebuild,
        "ready.tcp",
        Address,
        "\"\"",
        "The program is ready when this port accepts connections.",
    ),
    key(
        Hotrun,
        Rebuild,
        "ready.log",
        Text,
        "\"\"",
        "The program is ready when it has printed a line that this regular expression matches.",
    ),
    key(
        Hotrun,
        Rebuild,
        "ready.after",
        OWN,
        "\"0s\"",
        "The program is ready when it has run for this long.",
    ),
    key(Hotrun, Rebuild, "ready.timeout", OWN, "\"30s\"", "Maximum time to become ready."),
    key(
        Air,
        Rebuild,
        "proxy.enabled",
        Boolean,
        "false",
        "Whether the proxy runs; in hotrun.toml, proxy_port alone turns it on.",
    ),
    key(Air, AtOnce, "proxy.proxy_port", PORT, "0", "The port that browsers connect to."),
    key(
        Air,
        Rebuild,
        "proxy.app_port",
        PortOr("auto"),
        "\"\"",
        "The port of the program; unset: found; 0: a free one for each start, passed in PORT.",
    ),
    key(
        Air,
        AtOnce,
        "proxy.app_start_timeout",
        MILLISECONDS,
        "0",
        "air's name for hold, which overrides it.",
    ),
    key(
        Hotrun,
        Rebuild,
        "proxy.app",
        Address,
        "\"\"",
        "Where the program listens, if not on app_port: unix:PATH.",
    ),
    key(
        Hotrun,
        AtOnce,
        "proxy.bind",
        Text,
        "\"localhost\"",
        "The address that the proxy listens on; \"0.0.0.0\" for all.",
    ),
    key(
        Hotrun,
        AtOnce,
        "proxy.hosts",
        Texts,
        "[]",
        "Host names besides localhost that requests may be for; *.NAME for all below NAME.",
    ),
    key(
        Hotrun,
        AtOnce,
        "proxy.routes",
        Routes,
        "{}",
        "Ports for requests whose path begins with a prefix: { \"/api\" = 8080 }.",
    ),
    key(
        Hotrun,
        AtOnce,
        "proxy.tls",
        Tls,
        "false",
        "Accept HTTPS: true, or { cert = FILE, key = FILE }.",
    ),
    key(
        Hotrun,
        AtOnce,
        "proxy.hold",
        OWN,
        "\"30s\"",
        "Maximum time that a request waits for the program.",
    ),
    key(
        Hotrun,
        AtOnce,
        "proxy.drain",
        OWN,
        "\"\"",
        "Maximum time for open requests to finish before their program is stopped; unset: kill_delay.",
    ),
    key(
        Hotrun,
        AtOnce,
        "proxy.debug_headers",
        Boolean,
        "false",
        "Add X-Hotrun-Generation to answers.",
    ),
    key(
        Air,
        AtOnce,
        "log.time",
        Boolean,
        "false",
        "Begin each line of hotrun's with the time of day.",
    ),
    key(Hotrun, AtOnce, "log.pids", Boolean, "false", "Name processes by their pids."),
    key(Hotrun, AtOnce, "log.compact", Boolean, "false", "Print one line for each save."),
    key(Air, AtOnce, "log.main_only", Boolean, "false", "Print only warnings and errors."),
    key(Air, AtOnce, "log.silent", Boolean, "false", "Print nothing."),
    key(
        Air,
        AtOnce,
        "color.mode",
        OneOf(&["auto", "always", "never"]),
        "\"auto\"",
        "When to use colours; --color overrides it.",
    ),
    key(Air, AtOnce, "color.main", Color, "\"\"", "The colour of lines about hotrun itself."),
    key(Air, AtOnce, "color.watcher", Color, "\"\"", "The colour of lines about saves."),
    key(Air, AtOnce, "color.build", Color, "\"\"", "The colour of lines about builds."),
    key(Air, AtOnce, "color.runner", Color, "\"\"", "The colour of lines about the program."),
    key(Air, AtOnce, "color.app", Color, "\"\"", "Read, and unused, as in air."),
    key(Air, AtOnce, "screen.clear_on_rebuild", Boolean, "false", "Clear the screen on each save."),
    key(
        Air,
        AtOnce,
        "screen.keep_scroll",
        Boolean,
        "true",
        "Keep what has scrolled out of the screen when it is cleared.",
    ),
    key(
        Hotrun,
        AtOnce,
        "screen.title",
        Boolean,
        "false",
        "Show the state in the terminal's title.",
    ),
    key(
        Hotrun,
        AtOnce,
        "screen.bell",
        Boolean,
        "false",
        "Ring the bell on a failure and on recovery.",
    ),
    key(
        Hotrun,
        AtOnce,
        "screen.notify",
        Boolean,
        "false",
        "Show a desktop notification on a failure and on recovery.",
    ),
    key(
        Air,
        AtOnce,
        "misc.clean_on_exit",
        Boolean,
        "false",
        "Delete tmp_dir when hotrun exits, if hotrun has made it.",
    ),
    key(Air, AtOnce, "misc.startup_banner", Text, "\"\"", "Text printed at startup."),
    alias("meta.tmp_dir", Text, "Write tmp_dir, at the top."),
    alias("meta.send_error_to_tty", Boolean, "Has no effect."),
    alias("watch.include_ext", Texts, "Write build.include_ext."),
    alias("watch.exclude_dir", Texts, "Write build.exclude_dir."),
    alias("watch.include_dir", Texts, "Write build.include_dir."),
    alias("watch.include_file", Texts, "Write build.include_file."),
    alias("watch.exclude_file", Texts, "Write build.exclude_file."),
    alias("watch.exclude_regex", Texts, "Write build.exclude_regex."),
    alias("watch.include_files", Texts, "Write build.include_file."),
    alias("watch.exclude_dirs", Texts, "Write build.exclude_dir."),
];

/// The tables under `[[NAME]]`, with their keys.
pub(crate) const LISTS: &[(&str, &str, &[Key])] = &[
    (
        "build.rules",
        "What to do when other files change. The first rule that matches a file wins.",
        &[
            key(Air, AtOnce, "name", Text, "", "What the rule is called in output."),
            key(
                Hotrun,
                AtOnce,
                "action",
                OneOf(&["run", "restart", "signal", "reload", "css"]),
                "\"run\"",
                "Run cmd, restart the program, send it a signal; reload and css are reserved.",
            ),
            key(
                Air,
                AtOnce,
                "cmd",
                Text,
                "",
                "The shell command; {} in it stands for each changed file.",
            ),
            key(Hotrun, AtOnce, "signal", Signal, "", "The signal that the program gets."),
            key(
                Air,
                AtOnce,
                "include_dir",
                Texts,
                "[]",
                "Only files below these directories match.",
            ),
            key(Air, AtOnce, "include_ext", Texts, "[]", "Files with these extensions match."),
            key(Air, AtOnce, "include_file", Texts, "[]", "These files match."),
            key(Air, AtOnce, "exclude_regex", Texts, "[]", "Files whose path this matches do not."),
            key(Air, AtOnce, "delay", MILLISECONDS, "0", "Has no effect: rapid saves are merged."),
        ],
    ),
    (
        "listen",
        "A socket that hotrun opens, and that every start of the program inherits.",
        &[
            key(
                Hotrun,
                Rebuild,
                "address",
                Address,
                "",
                "A port, HOST:PORT, unix:PATH or udp:HOST:PORT.",
            ),
            key(Hotrun, Rebuild, "name", Text, "", "The name of the socket in LISTEN_FDNAMES."),
        ],
    ),
];

/// The table whose keys are the user's own.
pub(crate) const OPEN: (&str, &str) =
    ("env", "Variables for builds and the program, which override those of env_files.");

/// The blocks of `build` for one operating system, and what they may hold (as in air).
pub(crate) const PLATFORMS: [&str; 3] = ["linux", "darwin", "windows"];
pub(crate) const PLATFORM_KEYS: [&str; 7] =
    ["pre_cmd", "cmd", "post_cmd", "bin", "entrypoint", "full_bin", "args_bin"];

/// The keys of the tables under `[[NAME]]`.
pub(crate) fn of_list(name: &str) -> &'static [Key] {
    LISTS.iter().find(|(one, ..)| *one == name).map_or(&[], |(.., keys)| keys)
}

/// The key of this name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What a number without a unit means for a key.
pub(crate) fn unit(name: &str, air_mode: bool) -> Bare {
    match find(name).map(|key| key.kind) {
        Some(Duration(bare)) if air_mode => bare,
        _ => Bare::NeedsUnit,
    }
}
