//! What the tasks of all connections share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Failure;
use super::head::Hosts;
use super::upstream::{Generation, Place, Upstream};
use super::{FromProxy, MAX_WAITING, Serving, View};
use crate::config;
use crate::event::Proc;
use crate::inbox::Inbox;
use crate::notice::Absence;

/// The settings that requests see.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) hosts: Hosts,
    pub(super) hold: Duration,
    pub(super) debug_headers: bool,
    /// The longest prefix first.
    routes: Vec<(String, Rc<Upstream>)>,
}

impl Settings {
    pub(super) fn new(config: &config::Proxy) -> Self {
        let route = |route: &config::Route| {
            let place = Place::of_port(route.port);
            (route.prefix.clone(), Rc::new(Upstream::new(place, None)))
        };
        Self {
            hosts: Hosts::new(config),
            hold: config.hold,
            debug_headers: config.debug_headers,
            // The last one leads to the program that hotrun runs.
            routes: config.routes.iter().filter(|one| one.prefix != "/").map(route).collect(),
        }
    }
}

/// Which program requests are sent to now.
#[derive(Clone, Debug)]
pub(super) enum Current {
    By(Rc<Upstream>),
    None(Absence),
}

/// What the tasks of all connections on one thread share.
pub(super) struct State {
    settings: RefCell<Rc<Settings>>,
    current: watch::Sender<Current>,
    /// The programs of which requests may be under way.
    generations: RefCell<Vec<(Proc, Rc<Upstream>)>>,
    /// The programs whose requests are awaited.
    draining: RefCell<BTreeSet<Proc>>,
    shared: Arc<Shared>,
}

/// What the threads share.
pub(super) struct Shared {
    threads: usize,
    /// How many requests wait.
    waiting: AtomicUsize,
    /// Whether a request that waited in vain was reported, and none was answered since.
    has_told: AtomicBool,
    /// How many threads have yet to drain these programs.
    draining: Mutex<BTreeMap<Proc, usize>>,
    inbox: Inbox<FromProxy>,
}

impl Shared {
    pub(super) fn new(threads: usize, inbox: Inbox<FromProxy>) -> Self {
        Self {
            threads,
            waiting: AtomicUsize::new(0),
            has_told: AtomicBool::new(false),
            draining: Mutex::default(),
            inbox,
        }
    }

    /// Notes that a program serves.
    fn forget_what_was_told(&self) {
        // Threads that only read do not wait for each other.
        if self.has_told.load(Ordering::Relaxed) {
            self.has_told.store(false, Ordering::Relaxed);
        }
    }

    /// Notes that no request to this program is under way in one of the threads.
    fn drained(&self, proc: Proc) {
        let mut draining = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        let left = draining.entry(proc).or_insert(self.threads);
        *left -= 1;
        if *left == 0 {
            draining.remove(&proc);
            self.inbox.send(FromProxy::Drained(proc));
        }
    }
}

impl State {
    pub(super) fn new(config: &config::Proxy, shared: Arc<Shared>) -> Self {
        Self {
            settings: RefCell::new(Rc::new(Settings::new(config))),
            current: watch::Sender::new(Current::None(Absence::NotStarted)),
            generations: RefCell::default(),
            draining: RefCell::default(),
            shared,
        }
    }

    pub(super) fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    pub(super) fn configure(&self, config: &config::Proxy) {
        *self.settings.borrow_mut() = Rc::new(Settings::new(config));
    }

    /// The program that hotrun does not run to which a path leads; `None`: to the one it runs.
    pub(super) fn route(&self, path: &str) -> Option<Rc<Upstream>> {
        let settings = self.settings();
        let leads = |prefix: &str| {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let route = settings.routes.iter().find(|(prefix, _)| leads(prefix));
        route.map(|(_, upstream)| Rc::clone(upstream))
    }

    /// Takes up what has changed in the engine.
    pub(super) fn take_up(&self, view: &View) {
        let serving = match &view.serving {
            Serving::By(generation) => Some(generation),
            Serving::None(_) => None,
        };
        let mut generations = self.generations.borrow_mut();
        generations.retain(|(proc, upstream)| {
            let is_current =
                serving.is_some_and(|one| one.proc == *proc && one.place == upstream.place);
            upstream.retire(!is_current);
            // One with requests under way may have to be drained later.
            is_current || view.draining.contains(proc) || !upstream.is_idle()
        });
        match &view.serving {
            Serving::By(generation) => {
                let Generation { proc, number, place } = generation;
                let known = generations
                    .iter()
                    .find(|(one, upstream)| one == proc && upstream.place == *place)
                    .map(|(_, upstream)| Rc::clone(upstream));
                let upstream = known.unwrap_or_else(|| {
                    let new = Rc::new(Upstream::new(place.clone(), Some((*proc, *number))));
                    generations.push((*proc, Rc::clone(&new)));
                    new
                });
                self.current.send_if_modified(|current| match current {
                    Current::By(one) if Rc::ptr_eq(one, &upstream) => false,
                    Current::By(_) | Current::None(_) => {
                        *current = Current::By(upstream);
                        true
                    }
                });
            }
            Serving::None(why) => {
                self.current.send_replace(Current::None(*why));
            }
        }
        let new: Vec<Proc> = {
            let mut draining = self.draining.borrow_mut();
            let new = view.draining.difference(&draining).copied().collect();
            draining.clone_from(&view.draining);
            new
        };
        for proc in new {
            let all = generations.iter().filter(|(one, _)| *one == proc);
            // One more, so that it is reported once, also if there is none.
            let left = Rc::new(Cell::new(all.clone().count() + 1));
            let report = || {
                let (left, shared) = (Rc::clone(&left), Arc::clone(&self.shared));
                move || {
                    left.set(left.get() - 1);
                    if left.get() == 0 {
                        shared.drained(proc);
                    }
                }
            };
            for (_, upstream) in all {
                upstream.when_idle(report());
            }
            report()();
        }
    }

    /// Returns the program that serves, when there is one.
    ///
    /// # Errors
    ///
    /// None is there in time, or too many requests wait.
    pub(super) async fn ready(&self, until: Instant) -> Result<Rc<Upstream>, Failure> {
        if let Current::By(upstream) = &*self.current.borrow() {
            self.shared.forget_what_was_told();
            return Ok(Rc::clone(upstream));
        }
        let _waiting = Waiting::new(&self.shared.waiting).ok_or(Failure::Crowded)?;
        let began = Instant::now();
        let mut changes = self.current.subscribe();
        let serves = changes.wait_for(|current| match current {
            Current::By(_) => true,
            // No other program will follow.
            Current::None(why) => *why == Absence::Ending,
        });
        let serves = timeout_at(until, serves).await.ok();
        if let Some(Ok(current)) = serves.as_ref()
            && let Current::By(upstream) = &**current
        {
            self.shared.forget_what_was_told();
            return Ok(Rc::clone(upstream));
        }
        drop(serves);
        let why = match &*self.current.borrow() {
            Current::None(why) => *why,
            Current::By(_) => Absence::NotStarted,
        };
        Err(Failure::NoneReady { why, waited: self.waited_in_vain(why, began) })
    }

    /// Reports a request that has waited in vain since then, if it is the first of several. Returns
    /// how long it has waited.
    pub(super) fn waited_in_vain(&self, why: Absence, began: Instant) -> Duration {
        let waited = began.elapsed();
        if why != Absence::Ending && !self.shared.has_told.swap(true, Ordering::Relaxed) {
            self.shared.inbox.send(FromProxy::HeldInVain { waited, why });
        }
        waited
    }

    /// Whether another program serves now, or follows by itself.
    pub(super) fn is_followed(&self) -> bool {
        match &*self.current.borrow() {
            Current::By(_) => true,
            Current::None(why) => matches!(why, Absence::Restarting | Absence::Starting),
        }
    }

    /// Returns whether this program turns out to serve no longer within this time.
    pub(super) async fn ends_soon(&self, upstream: &Rc<Upstream>, time: Duration) -> bool {
        if upstream.generation.is_none() {
            return false;
        }
        let mut changes = self.current.subscribe();
        let ends = changes
            .wait_for(|current| !matches!(current, Current::By(one) if Rc::ptr_eq(one, upstream)));
        timeout(time, ends).await.is_ok()
    }
}

/// One of the requests that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// `None` if as many wait as may.
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let one_more = |count| (count < MAX_WAITING).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
