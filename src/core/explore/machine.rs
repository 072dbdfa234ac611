//! The machine under test as a table: each state of a service once, and what it answers to each
//! input once.
//!
//! What a service answers does not depend on the world around it. So each answer, and what a promise
//! says about it alone, serves all pairs with the same service, and all walks through them.

use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use std::ops::Index;
use std::rc::Rc;

use super::*;

/// The machine under test: the real one, or one with a fault planted.
pub(super) type Step = fn(Service, Input, Gates) -> (Service, Vec<Effect>);

/// A state of the service, by its number in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// An answer, by its number in the table.
#[derive(Clone, Copy)]
pub(super) struct AnswerId(u32);

/// What a service answers to an input.
pub(super) struct Answer {
    /// The state after it, with its processes renamed.
    pub(super) after: Id,
    /// Without what is only reported.
    pub(super) effects: Box<[Effect]>,
    pub(super) news: News,
    /// Whether it keeps the promises that do not depend on the world.
    pub(super) is_sound: Broken,
    /// The old names of the processes of `after`: 1 was the first, and so on.
    names: Box<[Proc]>,
    is_used: bool,
}

struct State {
    service: Rc<Service>,
    outline: Outline,
    /// The processes that it takes for living, by age.
    living: Vec<Proc>,
    /// The numbers of its answers, under each of the gates.
    answers: Quick<Input, [Option<AnswerId>; 4]>,
    is_known: bool,
}

pub(super) struct Machine {
    step: Step,
    states: Vec<State>,
    ids: Quick<Rc<Service>, Id>,
    answers: Vec<Answer>,
}

impl Index<Id> for Machine {
    type Output = Service;

    fn index(&self, id: Id) -> &Service {
        &self.state(id).service
    }
}

impl Machine {
    pub(super) fn new(step: Step) -> Self {
        Self { step, states: Vec::new(), ids: Quick::default(), answers: Vec::new() }
    }

    /// The number of a state, with its processes numbered from 1 in order of age, and with nothing
    /// in it that only counts or names; and the old names of the processes, in that order.
    pub(super) fn id(&mut self, service: &Service) -> (Id, Vec<Proc>) {
        let mut names = service.procs();
        names.sort_unstable();
        names.dedup();
        let renamed = |proc: Proc| {
            let place = names.binary_search(&proc).expect("it is in the state");
            Proc(narrow(place + 1))
        };
        let last = narrow(names.len());
        let service = service.renamed(&renamed, last);
        if let Some(id) = self.ids.get(&service) {
            return (*id, names);
        }
        let id = Id(narrow(self.states.len()));
        let service = Rc::new(service);
        self.ids.insert(Rc::clone(&service), id);
        let mut living = service.living();
        living.sort_unstable();
        let (outline, answers) = (Outline::of(&service), Quick::default());
        self.states.push(State { service, outline, living, answers, is_known: false });
        (id, names)
    }

    /// The number of what a state answers.
    pub(super) fn answer(&mut self, id: Id, input: &Input, gates: Gates) -> AnswerId {
        let place = place(gates);
        let known = self.state(id).answers.get(input).and_then(|answers| answers[place]);
        known.unwrap_or_else(|| {
            let before = &self[id];
            let (after, mut effects) = self.stepped(id, input, gates);
            let news = News::of(before, input, &after, &effects);
            let is_sound = is_sound(before, input, gates, &after, news);
            effects.retain(|effect| !matches!(effect, Effect::Say(_)));
            let (after, names) = self.id(&after);
            let (effects, names) = (effects.into(), names.into());
            let number = AnswerId(narrow(self.answers.len()));
            self.answers.push(Answer { after, effects, news, is_sound, names, is_used: false });
            let state = &mut self.states[id.0 as usize];
            state.answers.entry(input.clone()).or_default()[place] = Some(number);
            number
        })
    }

    pub(super) fn stepped(&self, id: Id, input: &Input, gates: Gates) -> (Service, Vec<Effect>) {
        (self.step)(Service::clone(&self[id]), input.clone(), gates)
    }

    pub(super) fn answered(&self, id: AnswerId) -> &Answer {
        &self.answers[id.0 as usize]
    }

    pub(super) fn service(&self, id: Id) -> Rc<Service> {
        Rc::clone(&self.state(id).service)
    }

    pub(super) fn outline(&self, id: Id) -> Outline {
        self.state(id).outline
    }

    /// Notes that this state was seen. Returns whether it is the first time.
    pub(super) fn is_new(&mut self, id: Id) -> bool {
        !mem::replace(&mut self.states[id.0 as usize].is_known, true)
    }

    /// Notes that this answer was explored. Returns whether it is the first time.
    pub(super) fn is_first_use(&mut self, id: AnswerId) -> bool {
        !mem::replace(&mut self.answers[id.0 as usize].is_used, true)
    }

    /// Gives the living processes their names in the state after an answer. Fails where that state
    /// does not contain each of them exactly once.
    pub(super) fn rename(&self, answer: &Answer, living: &mut [Living]) -> Broken {
        let named = &self.state(answer.after).living;
        let mut are_there = named.len() == living.len();
        for (one, proc) in living.iter_mut().zip(named) {
            are_there &= answer.names[proc.0 as usize - 1] == one.proc;
            one.proc = *proc;
        }
        promise(are_there, "P4: each living process is in the state exactly once")
    }

    fn state(&self, id: Id) -> &State {
        &self.states[id.0 as usize]
    }
}

/// What must hold of a service's answer in any world.
fn is_sound(before: &Service, input: &Input, gates: Gates, after: &Service, news: News) -> Broken {
    promise(
        half_started(after).is_none()
            || matches!(regions(after), Some((Work::Idle | Work::Due(_) | Work::Installing(_), _))),
        "an app that is not ready beside another is stopped before anything is made",
    )?;
    promise(
        !matches!(regions(after), Some((Work::Due(owed), _)) if *owed == Owed::default()),
        "nothing is due without a reason",
    )?;
    exits_with_its_app(before, input, after, gates)?;
    let is_ready = matches!(input, Input::Ready(_) | Input::Running(_));
    promise(!news.serves || is_ready, "an app serves anew only when it is ready")
}

/// With `on_exit = "quit"`, a service in which nothing else is going on ends with its app, and with
/// its exit code.
fn exits_with_its_app(service: &Service, input: &Input, after: &Service, gates: Gates) -> Broken {
    let (Some((Work::Idle, Slot::Single(app))), Input::Exited(proc, ended, _)) =
        (regions(service), input)
    else {
        return Ok(());
    };
    let goes_back = unproven(service, *proc)
        && !ended.succeeded()
        && service.policy.rollback
        && service.artifacts.older;
    let quits = service.policy.on_exit == OnExit::Quit && gates == Gates::OPEN;
    if app.proc != *proc || goes_back || !quits {
        return Ok(());
    }
    let code = match after.phase {
        Phase::Closing { code, .. } | Phase::Quitting { code } => Some(code),
        Phase::Live { .. } | Phase::Ended => None,
    };
    promise(
        code == Some(ended.exit_code()),
        "with on_exit = quit, a service ends with its app and its exit code",
    )
}

/// The tables are large, and each number is in them.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("not that many")
}

fn place(gates: Gates) -> usize {
    usize::from(gates.build == Gate::Open) + 2 * usize::from(gates.start == Gate::Open)
}

/// A map, and a set, whose hashes are quick to compute: no stranger chooses what is in them.
pub(super) type Quick<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;
pub(super) type QuickSet<K> = HashSet<K, BuildHasherDefault<Multiply>>;

#[derive(Default)]
pub(super) struct Multiply(u64);

impl Multiply {
    fn add(&mut self, word: u64) {
        self.0 = self.0.wrapping_add(word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
}

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.add(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    /// Of an enumeration, which variant it is.
    fn write_isize(&mut self, number: isize) {
        self.add(number.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        // A table takes the place of an entry from the low bits, which a product mixes least.
        self.0.rotate_left(26)
    }
}
