//! Files that hotrun itself writes or reads beside the sources: `tmp_dir`, the build log, the env
//! files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::Engine;
use crate::config::KEPT;
use crate::error::{Error, Result};
use crate::notice::{Notice, Problem};
use crate::own_dir;
use crate::process;
use crate::watch::changed_at;

/// Why most directories are not deleted.
const NOT_OURS: &str = "hotrun did not create it";

impl Engine {
    /// Creates the directory for build output.
    pub(super) fn prepare_tmp_dir(&mut self) -> Result<()> {
        if !self.service.config.makes_tmp {
            return Ok(());
        }
        self.make_tmp_dir()?;
        if let Err(error) = self.service.artifacts.claim() {
            tracing::debug!("{}: {error}", self.service.config.recipe.tmp_dir.display());
        }
        Ok(())
    }

    fn make_tmp_dir(&self) -> Result<()> {
        let directory = &self.service.config.recipe.tmp_dir;
        if directory.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(directory).and_then(|()| own_dir::mark(directory)).map_err(
            |error| {
                Error::failed(directory.display(), format!("cannot create tmp_dir: {error}"))
                    .remedy("set tmp_dir to a writable directory")
            },
        )
    }

    /// With `clean_on_exit`: deletes `tmp_dir`, if hotrun created it, or if it contains only build
    /// output.
    pub(super) fn clean(&self) {
        let directory = &self.service.config.recipe.tmp_dir;
        if !self.host.project.clean_on_exit || !directory.exists() {
            return;
        }
        let project = [&self.service.config.watch.base, &self.host.project.directory];
        let own = directory.join(KEPT).join(process::owner());
        let is_own = |path: &Path, meta: &std::fs::Metadata| {
            path == own || self.service.artifacts.is_written(path, meta)
        };
        let outcome = match why_to_keep(directory, &project.map(PathBuf::as_path)) {
            _ if self.service.artifacts.has_neighbours(process::is_alive) => {
                Err("another hotrun uses it".to_owned())
            }
            Some(why) => Err(why),
            None => delete(directory, &is_own),
        };
        if let Err(why) = outcome {
            let directory = directory.display().to_string();
            if why != NOT_OURS || is_news(&format!("clean_on_exit {directory}")) {
                self.say(Problem::NotCleaned { directory, why });
            }
        }
    }

    /// Records the artifact after a successful build, if that build has written it.
    pub(super) fn remember_what_was_written(&mut self) {
        let Some(artifact) = self.service.config.watch.artifact.clone() else { return };
        let began = self.service.window.map(|window| window.began_by_files());
        if let Ok(meta) = artifact.symlink_metadata()
            && changed_at(&meta).zip(began).is_some_and(|(at, began)| at >= began)
        {
            self.service.artifacts.was_written(artifact, &meta);
        }
    }

    /// Logs the output of a failed build. A successful build empties the log.
    pub(super) fn write_log(&mut self, failed: Option<&[u8]>) {
        let Some(log) = &self.service.config.recipe.log else { return };
        let is_there = log.path.exists();
        let directory = log.path.parent().unwrap_or(Path::new("/"));
        if failed.is_none() && !is_there || !log.is_chosen && !directory.is_dir() {
            return;
        }
        if directory.starts_with(&self.service.config.recipe.tmp_dir)
            && let Err(error) = self.make_tmp_dir()
        {
            return self.say(Problem::Failed(error));
        }
        let text = failed.unwrap_or_default();
        let path = &log.path;
        let written = std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(path, text))
            .and_then(|()| path.symlink_metadata());
        match written {
            Ok(meta) => self.service.artifacts.was_written(path.clone(), &meta),
            Err(error) => self.say(Problem::NotLogged {
                path: path.display().to_string(),
                why: error.to_string(),
            }),
        }
    }

    /// Reads the variables again. An error in a file leaves them unchanged.
    pub(super) fn read_env(&mut self) -> bool {
        match self.service.config.recipe.env.read() {
            Ok(env) => {
                self.service.env = env;
                self.service.told_env = None;
                true
            }
            Err(error) => {
                let problem = Problem::EnvFile { error, has_values: !self.service.env.is_empty() };
                if self.service.told_env.as_ref() != Some(&problem) {
                    self.say(problem.clone());
                    self.service.told_env = Some(problem);
                }
                false
            }
        }
    }

    /// Whether the app was started with the current variables.
    pub(super) fn env_is_as_it_was(&mut self) -> bool {
        self.read_env();
        self.service.env == self.service.app_env
    }

    /// Returns the saved env files, unless no variable has changed and the last build succeeded.
    pub(super) fn changed_env(&mut self, files: Vec<PathBuf>) -> Vec<PathBuf> {
        if files.is_empty() {
            return files;
        }
        self.service.told_env = None;
        if !self.read_env() {
            return Vec::new();
        }
        if self.service.env == self.service.app_env && !self.has_build_failed() {
            self.say(Notice::Unchanged(files.into()));
            return Vec::new();
        }
        files
    }
}

/// Why a directory must not be deleted, regardless of its contents. `kept` are directories that must stay.
fn why_to_keep(directory: &Path, kept: &[&Path]) -> Option<String> {
    let is_link = directory.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    let Ok(real) = directory.canonicalize() else {
        return Some("it cannot be read".to_owned());
    };
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    let holds = |path: &Path| path.canonicalize().is_ok_and(|path| path.starts_with(&real));
    if kept.iter().any(|path| holds(path)) || home.is_some_and(|home| home.starts_with(&real)) {
        return Some("it contains the project".to_owned());
    }
    if is_link {
        return Some(NOT_OURS.to_owned());
    }
    let is_repository = own_dir::is_own(directory) && directory.join(".git").exists();
    is_repository.then(|| "there is a repository in it".to_owned())
}

/// Deletes a directory that hotrun has made, or that contains only files of its own.
fn delete(
    directory: &Path,
    is_own: &dyn Fn(&Path, &std::fs::Metadata) -> bool,
) -> std::result::Result<(), String> {
    let deleted = directory.symlink_metadata().and_then(|seen| {
        Ok(own_dir::delete(directory)? || own_dir::delete_seen(directory, &seen, is_own)?)
    });
    match deleted {
        Ok(true) => Ok(()),
        Ok(false) => Err(NOT_OURS.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether no earlier hotrun of this user has printed this. Records that it was printed.
fn is_news(text: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let Some(mark) = process::shared_file("told", hasher.finish()) else { return true };
    let is_news = !mark.exists();
    // If the mark cannot be written, the message will be printed again.
    let _ = std::fs::write(mark, "");
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_that_hotrun_has_made_is_its_own() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let made = |name: &str| {
            let directory = root.join(name);
            std::fs::create_dir_all(&directory).unwrap();
            own_dir::mark(&directory).unwrap();
            directory
        };
        let why = |directory: &Path, kept: &Path| why_to_keep(directory, &[kept]);
        let has_deleted = |directory: &Path| delete(directory, &|file, _| file.ends_with("main"));
        let ours = made("tmp");
        assert_eq!(why(&ours, &root), None);
        assert_eq!(why(&ours, &ours).as_deref(), Some("it contains the project"));
        let inside = ours.join("a/b");
        std::fs::create_dir_all(&inside).unwrap();
        assert_eq!(why(&ours, &inside).as_deref(), Some("it contains the project"));
        assert!(why(Path::new("/"), &root).is_some());

        let link = root.join("link");
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        assert_eq!(why(&link, &root).as_deref(), Some("hotrun did not create it"));
        let theirs = root.join("build");
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(theirs.join("notes"), "").unwrap();
        let not_ours = Err("hotrun did not create it".to_owned());
        assert_eq!(has_deleted(&theirs), not_ours);
        std::fs::write(theirs.join(".gitignore"), "*\n").unwrap();
        assert_eq!(has_deleted(&theirs), not_ours);
        // It contains only build output.
        std::fs::remove_file(theirs.join("notes")).unwrap();
        std::fs::remove_file(theirs.join(".gitignore")).unwrap();
        std::fs::create_dir(theirs.join("bin")).unwrap();
        std::fs::write(theirs.join("bin/main"), "").unwrap();
        assert_eq!(why(&theirs, &theirs).as_deref(), Some("it contains the project"));
        assert_eq!((why(&theirs, &root), has_deleted(&theirs)), (None, Ok(())));
        assert_eq!((has_deleted(&ours), ours.exists()), (Ok(()), false));
        let cloned = made("cloned");
        std::fs::create_dir(cloned.join(".git")).unwrap();
        assert_eq!(why(&cloned, &root).as_deref(), Some("there is a repository in it"));
        assert_eq!(why(&root.join("nowhere"), &root).as_deref(), Some("it cannot be read"));
    }
}
