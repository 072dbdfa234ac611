//! Processes that may outlive a build or an app: build daemons and the like, known by their command
//! lines.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Processes that may stay by default: daemons that builds start to be quicker the
/// next time, agents, and the browsers that an app opens for its user (but none that a
/// program drives).
pub(super) const SPARED: [&str; 13] = [
    // Its server has no arguments; its clients have.
    "{,*/}sccache",
    "{,*/}ccache-storage-*",
    "*GradleDaemon*",
    "*KotlinCompileDaemon*",
    "bazel(*",
    "*dotnet*MSBuild.dll*nodemode*",
    "*VBCSCompiler*",
    "{,*/}watchman{, *}",
    "{,*/}{gpg,ssh}-agent{, *}",
    "{,*/}adb *fork-server*",
    "{,*/}{firefox,firefox-esr,firefox-bin,chrome,google-chrome,google-chrome-stable,\
     chrome_crashpad_handler,chromium,chromium-browser,brave,brave-browser,microsoft-edge,\
     msedge,opera,vivaldi-bin,epiphany,Google Chrome,Safari}{, *}",
    "!*--headless*",
    "!*--remote-debugging-p*",
];

/// Stands for [`SPARED`] in a list.
pub(super) const DEFAULTS: &str = "...";

/// Globs on full command lines. One that begins with `!` negates.
#[derive(Debug, Default)]
pub struct Spare {
    spared: GlobSet,
    taken_back: GlobSet,
}

impl Spare {
    /// Reads the globs. Fails with the first invalid one, and the reason.
    pub fn new(patterns: &[String]) -> Result<Self, (String, String)> {
        let set = |patterns: &mut dyn Iterator<Item = &str>| {
            let mut set = GlobSetBuilder::new();
            for pattern in patterns {
                let mut glob = GlobBuilder::new(pattern);
                // A command line is no path: `*` goes over blanks and slashes alike.
                let glob = glob.literal_separator(false).empty_alternates(true).build();
                set.add(glob.map_err(|error| (pattern.to_owned(), error.kind().to_string()))?);
            }
            set.build().map_err(|error| (String::new(), error.to_string()))
        };
        let back = |pattern: &str| pattern.starts_with('!');
        let all = || patterns.iter().map(String::as_str);
        Ok(Self {
            spared: set(&mut all().filter(|one| !back(one)))?,
            taken_back: set(&mut all().filter(|one| back(one)).map(|one| &one[1..]))?,
        })
    }

    /// True if a process with this command line may stay.
    pub fn has(&self, command_line: &str) -> bool {
        self.spared.is_match(command_line) && !self.taken_back.is_match(command_line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare(patterns: &[&str]) -> Spare {
        Spare::new(&patterns.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn daemons_agents_and_browsers_are_spared_and_nobody_else() {
        let spare = spare(&SPARED);
        for line in [
            "sccache",
            "/usr/local/bin/sccache",
            "/usr/lib/jvm/bin/java -Xmx512m org.gradle.launcher.daemon.bootstrap.GradleDaemon 8.5",
            "java -cp k.jar org.jetbrains.kotlin.daemon.KotlinCompileDaemon --daemon-x",
            "bazel(project) -XX:+UseG1GC -jar /home/me/.cache/bazel/A-server.jar",
            "/usr/share/dotnet/dotnet /usr/share/dotnet/sdk/9/MSBuild.dll /nodemode:1 /nodeReuse:true",
            "watchman --foreground",
            "gpg-agent --homedir /home/me/.gnupg --use-standard-socket --daemon",
            "/usr/bin/ssh-agent -s",
            "adb -L tcp:5037 fork-server server --reply-fd 4",
            "/usr/lib/firefox/firefox http://localhost:3000",
            "/opt/google/chrome/chrome",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome --flag",
        ] {
            assert!(spare.has(line), "{line}");
        }
        for line in [
            "",
            "sccache rustc --crate-name x",
            "ccache gcc -c a.c",
            "/home/me/sccache/target/debug/app",
            "./gradlew build",
            "node server.js --open chrome",
            "/opt/google/chrome/chrome --headless --print-to-pdf",
            "chromium --remote-debugging-port=9222",
            "adb logcat",
            "sleep 1000",
        ] {
            assert!(!spare.has(line), "{line}");
        }
    }

    #[test]
    fn a_star_goes_over_blanks_and_slashes_and_a_bad_glob_is_named() {
        assert!(spare(&["*/worker *"]).has("/a/b/worker --x /y z"));
        assert!(!spare(&["worker"]).has("worker --x"));
        assert!(!spare(&["*", "!app*"]).has("app --x"));
        assert_eq!(Spare::new(&["a[".to_owned()]).unwrap_err().0, "a[");
    }
}
