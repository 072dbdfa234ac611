//! Asks the go command after builds which files a Go program is built from, and watches these
//! files.
//!
//! This delays neither builds nor starts: the query starts when a build has exited, and its answer
//! is a message.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::Engine;
use super::message::FromEngine;
use crate::project::go::{self, Sources};

/// The state of the query.
#[derive(Debug)]
pub(super) struct Listing {
    /// Whether a change may have outdated the last answer.
    is_stale: bool,
    under_way: Option<UnderWay>,
}

/// A query that has started.
#[derive(Debug)]
struct UnderWay {
    answer: oneshot::Receiver<Sources>,
    /// When the build before the query started, by the clock of the file system.
    since: SystemTime,
}

impl Default for Listing {
    fn default() -> Self {
        Self { is_stale: true, under_way: None }
    }
}

impl Listing {
    /// Notes that a build for these files starts. `is_gone`: whether a file was deleted.
    pub(super) fn build_began(&mut self, changed: &[PathBuf], is_gone: impl Fn(&Path) -> bool) {
        // A build without paths was requested, perhaps because something else changed.
        self.is_stale |= changed.is_empty()
            || changed.iter().any(|path| Sources::may_change_by(path) || is_gone(path));
    }

    /// Notes that these files were saved or deleted, before their build starts. A rule may run before
    /// that, and attribution may forget which files are gone.
    pub(super) fn saved(&mut self, changed: &[PathBuf], is_gone: impl Fn(&Path) -> bool) {
        self.is_stale |= changed.iter().any(|path| is_gone(path));
    }

    /// Notes that the configuration was reloaded. If its queries differ, a pending answer is of no
    /// use.
    pub(super) fn reconfigured(&mut self, asks_the_same: bool) {
        self.is_stale = true;
        if !asks_the_same {
            self.under_way = None;
        }
    }
}

impl Engine {
    /// Asks what the program is built from, if that may have changed.
    pub(super) fn ask_what_is_listed(&mut self) {
        let (Some(_), Some(window)) = (&self.host.watch, &self.service.window) else { return };
        if self.service.config.asks.is_empty()
            || !std::mem::take(&mut self.service.listing.is_stale)
        {
            return;
        }
        let (mut sender, answer) = oneshot::channel();
        // A newer query replaces an older one, but must also find the files saved since that one.
        let before = self.service.listing.under_way.take().map(|asked| asked.since);
        let since = before.map_or(window.began_by_files(), |at| at.min(window.began_by_files()));
        self.service.listing.under_way = Some(UnderWay { answer, since });
        let questions = go::with_variables(&self.service.config.asks, &self.service.env);
        let (helper, inbox) = (self.host.processes.helper(), self.host.sender.clone());
        spawn_local(async move {
            let found = tokio::select! {
                found = go::sources(questions, &helper) => found,
                () = sender.closed() => return,
            };
            if sender.send(found).is_ok() {
                inbox.send(FromEngine::Listed);
            }
        });
    }

    /// Handles the answer.
    pub(super) fn listed(&mut self) {
        let Some(asked) = &mut self.service.listing.under_way else { return };
        let Ok(found) = asked.answer.try_recv() else { return };
        let since = asked.since;
        self.service.listing.under_way = None;
        let former = self.service.config.watch.sources.take();
        // What is missing may be in a file that no save will report.
        self.service.listing.is_stale |= found.error().is_some();
        let found = found.after(former.as_deref());
        let is_news = former.as_ref().is_none_or(|former| !found.is_watched_as(former));
        let found = Arc::new(found);
        let listed = Arc::clone(&found);
        let found = Some(found);
        self.service.config.watch.sources.clone_from(&found);
        if let Some((_, next)) =
            self.host.next.as_mut().filter(|(_, next)| next.asks == self.service.config.asks)
        {
            next.watch.sources = found;
        }
        self.service.judge_anew();
        if let Some(watch) = self.host.watch.as_ref().filter(|_| is_news) {
            let newest = self.newest();
            // Files that matter only now may have been saved while the query ran.
            watch.configure(newest.watch.clone(), since);
        }
        let (packages, error) = (listed.packages().count(), listed.error());
        tracing::debug!(packages, is_news, error, "go list has answered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an answer is outdated by a build for these files, of which some are gone.
    fn is_outdated(changed: &[&str], gone: &[&str]) -> bool {
        let mut listing = Listing { is_stale: false, under_way: None };
        let changed: Vec<PathBuf> = changed.iter().map(PathBuf::from).collect();
        listing.build_began(&changed, |path| gone.iter().any(|one| Path::new(one) == path));
        listing.is_stale
    }

    #[test]
    fn what_a_program_consists_of_changes_with_sources_and_with_anything_that_goes() {
        assert!(is_outdated(&[], &[]), "a build was requested");
        assert!(is_outdated(&["page.html", "main.go"], &[]));
        assert!(is_outdated(&["go.mod"], &[]));
        assert!(is_outdated(&["a.css", "page.html"], &["page.html"]));
        assert!(!is_outdated(&["a.css", "page.html"], &["other.html"]));
    }

    #[test]
    fn what_was_deleted_counts_even_if_that_is_forgotten_before_the_build() {
        for (gone, is_asked) in [("page.html", true), ("other.html", false)] {
            let mut listing = Listing { is_stale: false, under_way: None };
            let changed = [PathBuf::from("a.css"), PathBuf::from("page.html")];
            listing.saved(&changed, |path| path == Path::new(gone));
            listing.build_began(&changed, |_| false);
            assert_eq!(listing.is_stale, is_asked, "{gone}");
        }
    }
}
