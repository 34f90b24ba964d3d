//! Exhaustive models of the two fences of the cache: the fenced fill of an entry and the generation of a user's tokens.
//!
//! Not a test of product code: the transitions are written out again here, named like the protocol, so that a rule can be
//! broken on purpose and the checker shown to notice. Time, bytes, and the loss of acknowledged writes on a failover are
//! outside; everything that can drop a key (eviction, expiry, an operator's DEL) is one transition, allowed at any moment
//! and any number of times, and readers read for ever, so only commits and messages under way are bounded.
//!
//! Invariant: once an invalidation is acknowledged, nothing older is stored and no read that starts later returns it.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::{fmt::Debug, hash::Hash};

type Version = u8;
/// Random in the product. Here a small name, given anew in every state: only equality of tokens can matter.
type Token = u8;
/// A token nobody can meet in the store any more; comparing it with the key always fails.
const SPENT: Token = 0;

trait Protocol:
    Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq>
    + Send
    + Sync
    + 'static
{
    /// What a transition amounted to, for the `sometimes` properties.
    type Event: PartialEq;

    fn step(&self, state: &Self::State, action: Self::Action) -> Option<(Self::State, Self::Event)>;

    fn reaches(&self, state: &Self::State, event: Self::Event) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        let mut steps = actions.into_iter().filter_map(|action| self.step(state, action));
        steps.any(|(_, seen)| seen == event)
    }
}

/// Every property holds in the whole space, and the space has not silently shrunk.
fn check_safe(model: impl Protocol, floor: usize) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    let states = checker.unique_state_count();
    checker.assert_properties();
    assert!(states >= floor, "only {states} unique states explored, at least {floor} expected");
}

/// The checker finds the interleaving that a broken rule allows.
fn check_broken(model: impl Protocol, property: &'static str) {
    let violation = HasDiscoveries::AllOf([property].into());
    let checker = model.checker().threads(2).finish_when(violation).spawn_bfs().join();
    let states = checker.unique_state_count();
    let found = checker.discovery(property);
    assert!(found.is_some(), "{states} unique states without a violation of: {property}");
}

mod the_fenced_fill {
    use super::*;

    const NO_STALE_READ: &str = "a read started after an acknowledged invalidation is not older than it";
    const NO_STALE_VALUE: &str = "the store holds nothing older than an acknowledged invalidation";
    const WRITERS: usize = 2;

    /// The protocol as built, or with one rule changed.
    #[derive(Clone, Copy, PartialEq)]
    enum Rule {
        /// A fill needs the lease that its load began with. A result is shared with callers that join until the source
        /// is asked, and with later ones if the fill, sent after they joined, was stored.
        Built,
        PlainSet,
        FillAnyAbsentKey,
        TakeoverKeepsToken,
        TakeoverKeepsTokenBlindly,
        NearUnvalidated,
        /// A flight is shared until it ends, unless an invalidation made by the same process voids it.
        SharedToItsEnd {
            writers_are_local: bool,
        },
        /// A GET under way, whose reply may carry a value, is shared too.
        GetShared,
        /// The same `SET NX` is sent again when its reply is lost.
        LeaseResent,
        LaggingReplica,
        /// A hold is set inside the transaction, nothing is cut after its commit.
        HoldBeforeCommit,
    }

    impl Rule {
        /// A token that left the store and the wire never returns, so states differing only in it are one.
        fn tokens_are_one_shot(self) -> bool {
            !matches!(
                self,
                Rule::PlainSet
                    | Rule::FillAnyAbsentKey
                    | Rule::TakeoverKeepsTokenBlindly
                    | Rule::NearUnvalidated
                    | Rule::LeaseResent
            )
        }
    }

    /// The one store key of the entry.
    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    enum Key {
        Absent,
        Lease(Token),
        Value { version: Version, etag: Token },
        Hold,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    enum Flight {
        Idle,
        /// GET found nothing; `resend` is the token of an attempt whose reply was lost.
        Missed {
            resend: Option<Token>,
        },
        /// GET found somebody's lease.
        Waiting {
            seen: Token,
        },
        /// Holds a lease, as far as it knows; the source is not asked yet.
        Leading {
            lease: Token,
        },
        /// Loads without the right to fill.
        Bare,
        Loaded {
            lease: Option<Token>,
            version: Version,
        },
        /// The last reply is under way; `etag` when the entry is known to be stored.
        Answering {
            version: Version,
            etag: Option<Token>,
        },
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    struct Reader {
        near: Option<(Version, Token)>,
        flight: Flight,
        /// To later callers; only kept by the rules that share a flight for longer.
        closed: bool,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    enum Writer {
        Idle,
        Held,
        Committed(Version),
        Acknowledged,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    enum Cut {
        Delete,
        Hold,
    }

    /// `SET lease NX` when `over` is none, otherwise a takeover of that lease.
    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    struct Acquire {
        over: Option<Token>,
        token: Token,
    }

    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct State {
        source: Version,
        acknowledged: Version,
        writers: [Writer; WRITERS],
        key: Key,
        readers: Vec<Reader>,
        /// Requests whose sender stopped waiting; each may execute at any later moment, or never.
        late_acquire: Option<Acquire>,
        late_fill: Option<(Token, Version)>,
        late_cut: Option<Cut>,
        /// A ghost: some read broke the promise.
        stale_read: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Action {
        Get(usize),
        Acquire(usize),
        AcquireDelayed(usize),
        TakeOver(usize),
        TakeOverDelayed(usize),
        LoadWithoutFilling(usize),
        ReadSource(usize, Version),
        LoadFailed(usize),
        Fill(usize),
        FillDelayed(usize),
        GiveUpFill(usize),
        Answer(usize),
        Crash(usize),
        Commit(usize),
        Invalidate(usize, Cut),
        InvalidateDelayed(usize, Cut),
        LateAcquire,
        LateFill,
        LateCut,
        DropKey,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Event {
        Quiet,
        Hit,
        NearHit,
        TakenOver,
        TakeoverLost,
        Filled,
        FillRefused,
        LateFillRefused,
    }

    impl State {
        fn new(readers: usize) -> Self {
            let reader = Reader { near: None, flight: Flight::Idle, closed: false };
            State {
                source: 0,
                acknowledged: 0,
                writers: [Writer::Idle; WRITERS],
                key: Key::Absent,
                readers: vec![reader; readers],
                late_acquire: None,
                late_fill: None,
                late_cut: None,
                stale_read: false,
            }
        }

        /// Hands `version` to a caller that started at this very moment, the strictest one there can be.
        fn hand_out(&mut self, version: Version) {
            self.stale_read |= version < self.acknowledged;
        }

        /// Every place a token can stand in.
        fn for_each_token(&mut self, mut visit: impl FnMut(&mut Token)) {
            match &mut self.key {
                Key::Lease(token) | Key::Value { etag: token, .. } => visit(token),
                Key::Absent | Key::Hold => {}
            }
            if let Some(acquire) = &mut self.late_acquire {
                visit(&mut acquire.token);
                acquire.over.iter_mut().for_each(&mut visit);
            }
            self.late_fill.iter_mut().for_each(|(token, _)| visit(token));
            for reader in &mut self.readers {
                reader.near.iter_mut().for_each(|(_, etag)| visit(etag));
                match &mut reader.flight {
                    Flight::Waiting { seen: token } | Flight::Leading { lease: token } => visit(token),
                    Flight::Missed { resend: token }
                    | Flight::Loaded { lease: token, .. }
                    | Flight::Answering { etag: token, .. } => token.iter_mut().for_each(&mut visit),
                    Flight::Idle | Flight::Bare => {}
                }
            }
        }

        fn fresh_token(&mut self) -> Token {
            let mut last = SPENT;
            self.for_each_token(|token| last = last.max(*token));
            last + 1
        }

        /// Tokens that can still be met in the store, now or when a late acquisition executes.
        fn meetable(&self, token: Token) -> bool {
            let in_key =
                |token| matches!(self.key, Key::Lease(held) | Key::Value { etag: held, .. } if held == token);
            let can_come = |late: Acquire| late.token == token && late.over.is_none_or(in_key);
            in_key(token) || self.late_acquire.is_some_and(can_come)
        }

        /// One representative for all states that differ only in names: of tokens, of readers, of writers.
        fn canonical(mut self, rule: Rule) -> Self {
            if rule.tokens_are_one_shot() {
                let before = self.clone();
                self.for_each_token(|token| {
                    if !before.meetable(*token) {
                        *token = SPENT;
                    }
                });
                self.readers
                    .iter_mut()
                    .for_each(|reader| reader.near = reader.near.filter(|near| near.1 != SPENT));
                self.late_acquire = self.late_acquire.filter(|late| late.over != Some(SPENT));
                self.late_fill = self.late_fill.filter(|late| late.0 != SPENT);
            }
            self.rename_tokens();
            self.readers.sort_unstable();
            self.rename_tokens();
            self.writers.sort_unstable();
            self
        }

        fn rename_tokens(&mut self) {
            let mut names = [SPENT; 32];
            let mut last = SPENT;
            self.for_each_token(|token| {
                let name = &mut names[usize::from(*token)];
                if *token != SPENT && *name == SPENT {
                    last += 1;
                    *name = last;
                }
                *token = *name;
            });
        }

        // What the store executes atomically.

        fn acquire(&mut self, request: Acquire, rule: Rule) -> bool {
            let won = match request.over {
                None => self.key == Key::Absent,
                Some(_) if rule == Rule::TakeoverKeepsTokenBlindly => true,
                Some(seen) => self.key == Key::Lease(seen),
            };
            if won {
                self.key = Key::Lease(request.token);
            }
            won
        }

        fn fill(&mut self, lease: Token, version: Version, rule: Rule) -> bool {
            let stored = self.key == Key::Lease(lease)
                || rule == Rule::PlainSet
                || (rule == Rule::FillAnyAbsentKey && self.key == Key::Absent);
            if stored {
                self.key = Key::Value { version, etag: lease };
            }
            stored
        }

        fn release(&mut self, lease: Token) {
            if self.key == Key::Lease(lease) {
                self.key = Key::Absent;
            }
        }

        fn cut(&mut self, cut: Cut) {
            self.key = match cut {
                Cut::Delete => Key::Absent,
                Cut::Hold => Key::Hold,
            };
        }

        // What a reader does.

        /// Entry and near validation are one atomic read of the key.
        fn get(&mut self, at: usize, rule: Rule) -> Event {
            let near = self.readers[at].near.filter(|near| match self.key {
                _ if rule == Rule::NearUnvalidated => true,
                Key::Value { etag, .. } => etag == near.1,
                _ => false,
            });
            if let Some((version, _)) = near {
                self.hand_out(version);
                self.readers[at].flight = Flight::Idle;
                return Event::NearHit;
            }
            self.readers[at].closed = false;
            self.readers[at].flight = match self.key {
                Key::Absent => Flight::Missed { resend: None },
                Key::Lease(seen) => Flight::Waiting { seen },
                Key::Hold => Flight::Bare,
                Key::Value { version, etag } => {
                    self.hand_out(version);
                    Flight::Answering { version, etag: Some(etag) }
                }
            };
            if matches!(self.key, Key::Value { .. }) { Event::Hit } else { Event::Quiet }
        }

        fn acquire_request(&mut self, at: usize, rule: Rule) -> Option<Acquire> {
            let fresh = self.fresh_token();
            match self.readers[at].flight {
                Flight::Missed { resend } => Some(Acquire { over: None, token: resend.unwrap_or(fresh) }),
                Flight::Waiting { seen }
                    if rule != Rule::TakeoverKeepsToken && rule != Rule::TakeoverKeepsTokenBlindly =>
                {
                    Some(Acquire { over: Some(seen), token: fresh })
                }
                Flight::Waiting { seen } => Some(Acquire { over: Some(seen), token: seen }),
                _ => None,
            }
        }

        fn acquire_delayed(&mut self, at: usize, rule: Rule) -> Option<Event> {
            let request = self.acquire_request(at, rule)?;
            self.late_acquire = Some(request);
            if rule == Rule::LeaseResent && request.over.is_none() {
                self.readers[at].flight = Flight::Missed { resend: Some(request.token) };
            }
            Some(Event::Quiet)
        }

        fn acquire_now(&mut self, at: usize, rule: Rule) -> Option<Event> {
            let request = self.acquire_request(at, rule)?;
            let won = self.acquire(request, rule);
            self.readers[at].flight =
                if won { Flight::Leading { lease: request.token } } else { Flight::Bare };
            Some(match (request.over, won) {
                (Some(_), true) => Event::TakenOver,
                (Some(_), false) => Event::TakeoverLost,
                (None, _) => Event::Quiet,
            })
        }

        /// Callers that joined until this moment are served by what the source says now.
        fn read_source(&mut self, at: usize, version: Version, rule: Rule) -> Option<Event> {
            let lease = match self.readers[at].flight {
                Flight::Leading { lease } => Some(lease),
                Flight::Bare => None,
                _ => return None,
            };
            self.hand_out(version);
            self.readers[at].closed |= rule == Rule::GetShared;
            self.readers[at].flight = match lease {
                Some(_) => Flight::Loaded { lease, version },
                None => Flight::Answering { version, etag: None },
            };
            Some(Event::Quiet)
        }

        fn load_failed(&mut self, at: usize) -> Option<Event> {
            match self.readers[at].flight {
                Flight::Leading { lease } => self.release(lease),
                Flight::Bare => {}
                _ => return None,
            }
            self.readers[at].flight = Flight::Idle;
            Some(Event::Quiet)
        }

        /// A stored fill proves that the lease lived from before the load until now, so whoever joined before it was
        /// sent is served; a refused one proves nothing, and those who joined after the source was asked read again.
        fn fill_now(&mut self, at: usize, rule: Rule) -> Option<Event> {
            let Flight::Loaded { lease: Some(lease), version } = self.readers[at].flight else {
                return None;
            };
            let stored = self.fill(lease, version, rule);
            if stored {
                self.hand_out(version);
            }
            self.readers[at].flight = Flight::Answering { version, etag: stored.then_some(lease) };
            Some(if stored { Event::Filled } else { Event::FillRefused })
        }

        fn fill_delayed(&mut self, at: usize) -> Option<Event> {
            let Flight::Loaded { lease: Some(lease), version } = self.readers[at].flight else {
                return None;
            };
            self.late_fill = Some((lease, version));
            Some(Event::Quiet)
        }

        fn give_up_fill(&mut self, at: usize) -> Option<Event> {
            let Flight::Loaded { version, .. } = self.readers[at].flight else {
                return None;
            };
            self.readers[at].flight = Flight::Answering { version, etag: None };
            Some(Event::Quiet)
        }

        fn answer(&mut self, at: usize, rule: Rule) -> Option<Event> {
            let Flight::Answering { version, etag } = self.readers[at].flight else {
                return None;
            };
            let shared = matches!(rule, Rule::SharedToItsEnd { .. } | Rule::GetShared);
            if shared && !self.readers[at].closed {
                self.hand_out(version);
            }
            let near = etag.map(|etag| (version, etag)).or(self.readers[at].near);
            self.readers[at] = Reader { near, flight: Flight::Idle, closed: false };
            Some(Event::Quiet)
        }

        // What a writer does.

        fn commit(&mut self, writer: usize) -> Option<Event> {
            self.source += 1;
            self.writers[writer] = match self.writers[writer] {
                Writer::Idle => Writer::Committed(self.source),
                Writer::Held => {
                    self.acknowledged = self.source;
                    Writer::Acknowledged
                }
                Writer::Committed(_) | Writer::Acknowledged => return None,
            };
            Some(Event::Quiet)
        }

        /// Counted as acknowledged from the moment it executes, which is the stricter reading.
        fn invalidate(&mut self, writer: usize, cut: Cut, rule: Rule) -> Option<Event> {
            self.cut(cut);
            self.writers[writer] = match self.writers[writer] {
                Writer::Idle => Writer::Held,
                Writer::Committed(version) => {
                    self.acknowledged = self.acknowledged.max(version);
                    Writer::Acknowledged
                }
                Writer::Held | Writer::Acknowledged => return None,
            };
            if let Rule::SharedToItsEnd { writers_are_local: true } = rule {
                for reader in &mut self.readers {
                    reader.closed = reader.flight != Flight::Idle;
                }
            }
            Some(Event::Quiet)
        }
    }

    struct FencedFill {
        readers: usize,
        rule: Rule,
    }

    impl FencedFill {
        fn reader_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
            let reader = &state.readers[at];
            match reader.flight {
                Flight::Idle => actions.push(Action::Get(at)),
                Flight::Missed { .. } => {
                    actions.push(Action::Acquire(at));
                    if state.late_acquire.is_none() {
                        actions.push(Action::AcquireDelayed(at));
                    }
                }
                Flight::Waiting { .. } => {
                    actions.extend([Action::Get(at), Action::TakeOver(at), Action::LoadWithoutFilling(at)]);
                    if state.late_acquire.is_none() {
                        actions.push(Action::TakeOverDelayed(at));
                    }
                }
                Flight::Leading { .. } | Flight::Bare => {
                    actions.extend([Action::ReadSource(at, state.source), Action::LoadFailed(at)]);
                    if self.rule == Rule::LaggingReplica && state.source > 0 {
                        actions.push(Action::ReadSource(at, state.source - 1));
                    }
                }
                Flight::Loaded { .. } => {
                    actions.extend([Action::Fill(at), Action::GiveUpFill(at)]);
                    if state.late_fill.is_none() {
                        actions.push(Action::FillDelayed(at));
                    }
                }
                Flight::Answering { .. } => actions.push(Action::Answer(at)),
            }
            if reader.flight != Flight::Idle || reader.near.is_some() {
                actions.push(Action::Crash(at));
            }
        }
    }

    impl Protocol for FencedFill {
        type Event = Event;

        fn step(&self, state: &State, action: Action) -> Option<(State, Event)> {
            let (mut next, rule) = (state.clone(), self.rule);
            let event = match action {
                Action::Get(at) => next.get(at, rule),
                Action::Acquire(at) | Action::TakeOver(at) => next.acquire_now(at, rule)?,
                Action::AcquireDelayed(at) | Action::TakeOverDelayed(at) => next.acquire_delayed(at, rule)?,
                Action::LoadWithoutFilling(at) => {
                    next.readers[at].flight = Flight::Bare;
                    Event::Quiet
                }
                Action::ReadSource(at, version) => next.read_source(at, version, rule)?,
                Action::LoadFailed(at) => next.load_failed(at)?,
                Action::Fill(at) => next.fill_now(at, rule)?,
                Action::FillDelayed(at) => next.fill_delayed(at)?,
                Action::GiveUpFill(at) => next.give_up_fill(at)?,
                Action::Answer(at) => next.answer(at, rule)?,
                Action::Crash(at) => {
                    next.readers[at] = Reader { near: None, flight: Flight::Idle, closed: false };
                    Event::Quiet
                }
                Action::Commit(writer) => next.commit(writer)?,
                Action::Invalidate(writer, cut) => next.invalidate(writer, cut, rule)?,
                Action::InvalidateDelayed(_, cut) => {
                    next.late_cut = Some(cut);
                    Event::Quiet
                }
                Action::LateAcquire => {
                    let request = next.late_acquire.take()?;
                    next.acquire(request, rule);
                    Event::Quiet
                }
                Action::LateFill => {
                    let (lease, version) = next.late_fill.take()?;
                    if next.fill(lease, version, rule) { Event::Filled } else { Event::LateFillRefused }
                }
                Action::LateCut => {
                    let cut = next.late_cut.take()?;
                    next.cut(cut);
                    Event::Quiet
                }
                Action::DropKey => {
                    next.key = Key::Absent;
                    Event::Quiet
                }
            };
            Some((next.canonical(rule), event))
        }
    }

    impl Model for FencedFill {
        type State = State;
        type Action = Action;

        fn init_states(&self) -> Vec<State> {
            vec![State::new(self.readers)]
        }

        fn actions(&self, state: &State, actions: &mut Vec<Action>) {
            (0..state.readers.len()).for_each(|at| self.reader_actions(state, at, actions));
            for (at, writer) in state.writers.iter().enumerate() {
                match writer {
                    Writer::Idle if self.rule == Rule::HoldBeforeCommit => {
                        actions.push(Action::Invalidate(at, Cut::Hold));
                    }
                    Writer::Idle | Writer::Held => actions.push(Action::Commit(at)),
                    Writer::Committed(_) => {
                        for cut in [Cut::Delete, Cut::Hold] {
                            actions.push(Action::Invalidate(at, cut));
                            if state.late_cut.is_none() {
                                actions.push(Action::InvalidateDelayed(at, cut));
                            }
                        }
                    }
                    Writer::Acknowledged => {}
                }
            }
            actions.extend(state.late_acquire.map(|_| Action::LateAcquire));
            actions.extend(state.late_fill.map(|_| Action::LateFill));
            actions.extend(state.late_cut.map(|_| Action::LateCut));
            if state.key != Key::Absent {
                actions.push(Action::DropKey);
            }
        }

        fn next_state(&self, state: &State, action: Action) -> Option<State> {
            self.step(state, action).map(|(next, _)| next)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always(NO_STALE_READ, |_, state: &State| !state.stale_read),
                Property::always(
                    NO_STALE_VALUE,
                    |_, state: &State| !matches!(state.key, Key::Value { version, .. } if version < state.acknowledged),
                ),
                Property::sometimes("a hit", |model, state| model.reaches(state, Event::Hit)),
                Property::sometimes("a near hit", |model, state| model.reaches(state, Event::NearHit)),
                Property::sometimes("a takeover", |model, state| model.reaches(state, Event::TakenOver)),
                Property::sometimes("a lost takeover", |model, state| {
                    model.reaches(state, Event::TakeoverLost)
                }),
                Property::sometimes("a fill", |model, state| model.reaches(state, Event::Filled)),
                Property::sometimes("a refused fill", |model, state| {
                    model.reaches(state, Event::FillRefused)
                }),
                Property::sometimes("a refused late fill", |model, state| {
                    model.reaches(state, Event::LateFillRefused)
                }),
            ]
        }
    }

    #[test]
    fn is_safe_with_three_readers_and_two_writers() {
        check_safe(FencedFill { readers: 3, rule: Rule::Built }, 220_000);
    }

    #[test]
    fn is_safe_when_a_flight_is_voided_by_the_only_process_that_writes() {
        let rule = Rule::SharedToItsEnd { writers_are_local: true };
        check_safe(FencedFill { readers: 2, rule }, 57_000);
    }

    /// The comparison alone is the fence between an old and a new leader; the fresh token only tells them apart.
    #[test]
    fn is_safe_when_a_compared_takeover_keeps_the_token() {
        check_safe(FencedFill { readers: 2, rule: Rule::TakeoverKeepsToken }, 48_000);
    }

    #[test]
    fn breaks_the_store_with_a_weaker_fence() {
        for rule in [
            Rule::PlainSet,
            Rule::FillAnyAbsentKey,
            Rule::TakeoverKeepsTokenBlindly,
            Rule::LeaseResent,
            Rule::LaggingReplica,
            Rule::HoldBeforeCommit,
        ] {
            check_broken(FencedFill { readers: 2, rule }, NO_STALE_VALUE);
        }
    }

    #[test]
    fn breaks_reads_with_a_careless_process() {
        for rule in
            [Rule::NearUnvalidated, Rule::SharedToItsEnd { writers_are_local: false }, Rule::GetShared]
        {
            check_broken(FencedFill { readers: 2, rule }, NO_STALE_READ);
        }
    }
}

/// The generation that guards the cached payloads of one user: two keys in two slots, so never read together.
mod the_generation_of_a_user {
    use super::*;

    const NO_REVIVED_PAYLOAD: &str =
        "a read started after invalidateAll was acknowledged returns no payload verified before it";
    const WRITERS: usize = 2;

    /// The protocol as built, or with one rule changed.
    #[derive(Clone, Copy, PartialEq)]
    enum Rule {
        /// A missing generation voids every payload, and the next reader creates a random one with `SET NX`. A fill
        /// carries the generation read before the verification.
        Built,
        /// `invalidateAll` deletes the generation instead of replacing it.
        ReplaceByDelete,
        MissingReadsAsZero,
        ReadAfterVerification,
        CreationResent,
        ReplacementResent,
    }

    /// A verification is dated by the number of `invalidateAll` calls begun before it.
    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    struct Payload {
        generation: Token,
        began: Version,
    }

    /// `floor` is what was acknowledged when the read started.
    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    enum Reader {
        Idle,
        HasPayload { payload: Option<Payload>, floor: Version },
        HasGeneration { generation: Token, floor: Version },
        Creating { resend: Option<Token> },
        Missed { generation: Token },
        Verified(Payload),
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    enum Writer {
        Idle,
        Called { call: Version, resend: Option<Token> },
        Acknowledged,
    }

    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct State {
        called: Version,
        acknowledged: Version,
        writers: [Writer; WRITERS],
        generation: Option<Token>,
        payload: Option<Payload>,
        readers: Vec<Reader>,
        late_create: Option<Token>,
        /// The generation a late replacement sets; none inside deletes the key.
        late_replace: Option<Option<Token>>,
        late_fill: Option<Payload>,
        revived: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Action {
        GetPayload(usize),
        GetGeneration(usize),
        Create(usize),
        CreateDelayed(usize),
        Verify(usize),
        Fill(usize),
        FillDelayed(usize),
        GiveUp(usize),
        Call(usize),
        Replace(usize),
        ReplaceDelayed(usize),
        LateCreate,
        LateReplace,
        LateFill,
        DropGeneration,
        DropPayload,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Event {
        Quiet,
        Hit,
        Void,
        FillIsVoid,
    }

    impl State {
        fn new(readers: usize) -> Self {
            State {
                called: 0,
                acknowledged: 0,
                writers: [Writer::Idle; WRITERS],
                generation: None,
                payload: None,
                readers: vec![Reader::Idle; readers],
                late_create: None,
                late_replace: None,
                late_fill: None,
                revived: false,
            }
        }

        fn for_each_token(&mut self, mut visit: impl FnMut(&mut Token)) {
            self.generation.iter_mut().for_each(&mut visit);
            self.late_create.iter_mut().for_each(&mut visit);
            self.late_replace.iter_mut().flatten().for_each(&mut visit);
            for payload in self.payload.iter_mut().chain(&mut self.late_fill) {
                visit(&mut payload.generation);
            }
            for writer in &mut self.writers {
                if let Writer::Called { resend: Some(token), .. } = writer {
                    visit(token);
                }
            }
            for reader in &mut self.readers {
                match reader {
                    Reader::HasPayload { payload: Some(payload), .. } | Reader::Verified(payload) => {
                        visit(&mut payload.generation);
                    }
                    Reader::HasGeneration { generation, .. } | Reader::Missed { generation } => {
                        visit(generation)
                    }
                    Reader::Creating { resend: Some(token) } => visit(token),
                    Reader::Idle | Reader::HasPayload { .. } | Reader::Creating { .. } => {}
                }
            }
        }

        fn fresh_token(&mut self) -> Token {
            let mut last = 0;
            self.for_each_token(|token| last = last.max(*token));
            last + 1
        }

        /// Zero keeps its name: the broken rule that reads a missing key as zero knows it.
        fn rename_tokens(&mut self) {
            let (mut names, mut last) = ([0; 32], 0);
            self.for_each_token(|token| {
                let name = &mut names[usize::from(*token)];
                if *token != 0 && *name == 0 {
                    last += 1;
                    *name = last;
                }
                *token = *name;
            });
        }

        fn canonical(mut self) -> Self {
            self.rename_tokens();
            self.readers.sort_unstable();
            self.writers.sort_unstable();
            self.rename_tokens();
            self
        }

        fn current(&self, rule: Rule) -> Option<Token> {
            self.generation.or((rule == Rule::MissingReadsAsZero).then_some(0))
        }

        /// A payload counts only under the generation it was recorded with.
        fn judge(&mut self, at: usize, payload: Option<Payload>, generation: Token, floor: Version) -> Event {
            let valid = payload.filter(|payload| payload.generation == generation);
            self.readers[at] = if valid.is_some() { Reader::Idle } else { Reader::Missed { generation } };
            self.revived |= valid.is_some_and(|payload| payload.began < floor);
            match (payload, valid) {
                (_, Some(_)) => Event::Hit,
                (Some(_), None) => Event::Void,
                (None, None) => Event::Quiet,
            }
        }

        fn get_payload(&mut self, at: usize) -> Option<Event> {
            match self.readers[at] {
                Reader::Idle => {
                    self.readers[at] = Reader::HasPayload { payload: self.payload, floor: self.acknowledged };
                    Some(Event::Quiet)
                }
                Reader::HasGeneration { generation, floor } => {
                    Some(self.judge(at, self.payload, generation, floor))
                }
                _ => None,
            }
        }

        fn get_generation(&mut self, at: usize, rule: Rule) -> Option<Event> {
            let current = self.current(rule);
            match (self.readers[at], current) {
                (Reader::Idle | Reader::HasPayload { .. }, None) => {
                    self.readers[at] = Reader::Creating { resend: None };
                    Some(Event::Void)
                }
                (Reader::Idle, Some(generation)) => {
                    self.readers[at] = Reader::HasGeneration { generation, floor: self.acknowledged };
                    Some(Event::Quiet)
                }
                (Reader::HasPayload { payload, floor }, Some(generation)) => {
                    Some(self.judge(at, payload, generation, floor))
                }
                _ => None,
            }
        }

        /// `SET NX GET`: whoever created it, the reader goes on with the generation the store holds.
        fn create(&mut self, at: usize) -> Option<Event> {
            let Reader::Creating { resend } = self.readers[at] else {
                return None;
            };
            let token = resend.unwrap_or(self.fresh_token());
            let generation = *self.generation.get_or_insert(token);
            self.readers[at] = Reader::Missed { generation };
            Some(Event::Quiet)
        }

        fn create_delayed(&mut self, at: usize, rule: Rule) -> Option<Event> {
            let Reader::Creating { resend } = self.readers[at] else {
                return None;
            };
            let token = resend.unwrap_or(self.fresh_token());
            self.late_create = Some(token);
            if rule == Rule::CreationResent {
                self.readers[at] = Reader::Creating { resend: Some(token) };
            }
            Some(Event::Quiet)
        }

        fn verify(&mut self, at: usize) -> Option<Event> {
            let Reader::Missed { generation } = self.readers[at] else {
                return None;
            };
            self.readers[at] = Reader::Verified(Payload { generation, began: self.called });
            Some(Event::Quiet)
        }

        fn fill(&mut self, at: usize, rule: Rule) -> Option<Event> {
            let Reader::Verified(payload) = self.readers[at] else {
                return None;
            };
            self.readers[at] = Reader::Idle;
            let generation = match rule {
                Rule::ReadAfterVerification => self.current(rule)?,
                _ => payload.generation,
            };
            self.payload = Some(Payload { generation, ..payload });
            let void = self.current(rule) != Some(payload.generation);
            Some(if void { Event::FillIsVoid } else { Event::Quiet })
        }

        fn fill_delayed(&mut self, at: usize) -> Option<Event> {
            let Reader::Verified(payload) = self.readers[at] else {
                return None;
            };
            self.late_fill = Some(payload);
            self.readers[at] = Reader::Idle;
            Some(Event::Quiet)
        }

        fn call_invalidate_all(&mut self, writer: usize) -> Option<Event> {
            if self.writers[writer] != Writer::Idle {
                return None;
            }
            self.called += 1;
            self.writers[writer] = Writer::Called { call: self.called, resend: None };
            Some(Event::Quiet)
        }

        fn replacement(&mut self, resend: Option<Token>, rule: Rule) -> Option<Token> {
            let token = resend.unwrap_or(self.fresh_token());
            (rule != Rule::ReplaceByDelete).then_some(token)
        }

        fn replace(&mut self, writer: usize, rule: Rule) -> Option<Event> {
            let Writer::Called { call, resend } = self.writers[writer] else {
                return None;
            };
            self.generation = self.replacement(resend, rule);
            self.acknowledged = self.acknowledged.max(call);
            self.writers[writer] = Writer::Acknowledged;
            Some(Event::Quiet)
        }

        fn replace_delayed(&mut self, writer: usize, rule: Rule) -> Option<Event> {
            let Writer::Called { call, resend } = self.writers[writer] else {
                return None;
            };
            let replacement = self.replacement(resend, rule);
            self.late_replace = Some(replacement);
            if rule == Rule::ReplacementResent {
                self.writers[writer] = Writer::Called { call, resend: replacement };
            }
            Some(Event::Quiet)
        }
    }

    struct Generations {
        readers: usize,
        rule: Rule,
    }

    impl Protocol for Generations {
        type Event = Event;

        fn step(&self, state: &State, action: Action) -> Option<(State, Event)> {
            let (mut next, rule) = (state.clone(), self.rule);
            let mut event = Event::Quiet;
            match action {
                Action::GetPayload(at) => event = next.get_payload(at)?,
                Action::GetGeneration(at) => event = next.get_generation(at, rule)?,
                Action::Create(at) => event = next.create(at)?,
                Action::CreateDelayed(at) => event = next.create_delayed(at, rule)?,
                Action::Verify(at) => event = next.verify(at)?,
                Action::Fill(at) => event = next.fill(at, rule)?,
                Action::FillDelayed(at) => event = next.fill_delayed(at)?,
                Action::GiveUp(at) => next.readers[at] = Reader::Idle,
                Action::Call(writer) => event = next.call_invalidate_all(writer)?,
                Action::Replace(writer) => event = next.replace(writer, rule)?,
                Action::ReplaceDelayed(writer) => event = next.replace_delayed(writer, rule)?,
                Action::LateCreate => {
                    let token = next.late_create.take()?;
                    next.generation.get_or_insert(token);
                }
                Action::LateReplace => next.generation = next.late_replace.take()?,
                Action::LateFill => next.payload = Some(next.late_fill.take()?),
                Action::DropGeneration => next.generation = None,
                Action::DropPayload => next.payload = None,
            }
            Some((next.canonical(), event))
        }
    }

    impl Model for Generations {
        type State = State;
        type Action = Action;

        fn init_states(&self) -> Vec<State> {
            vec![State::new(self.readers)]
        }

        fn actions(&self, state: &State, actions: &mut Vec<Action>) {
            for (at, reader) in state.readers.iter().enumerate() {
                match reader {
                    Reader::Idle => actions.extend([Action::GetPayload(at), Action::GetGeneration(at)]),
                    Reader::HasPayload { .. } => actions.push(Action::GetGeneration(at)),
                    Reader::HasGeneration { .. } => actions.push(Action::GetPayload(at)),
                    Reader::Creating { .. } => {
                        actions.push(Action::Create(at));
                        actions.extend(state.late_create.is_none().then_some(Action::CreateDelayed(at)));
                    }
                    Reader::Missed { .. } => actions.extend([Action::Verify(at), Action::GiveUp(at)]),
                    Reader::Verified(_) => {
                        actions.extend([Action::Fill(at), Action::GiveUp(at)]);
                        actions.extend(state.late_fill.is_none().then_some(Action::FillDelayed(at)));
                    }
                }
            }
            for (at, writer) in state.writers.iter().enumerate() {
                match writer {
                    Writer::Idle => actions.push(Action::Call(at)),
                    Writer::Called { .. } => {
                        actions.push(Action::Replace(at));
                        actions.extend(state.late_replace.is_none().then_some(Action::ReplaceDelayed(at)));
                    }
                    Writer::Acknowledged => {}
                }
            }
            actions.extend(state.late_create.map(|_| Action::LateCreate));
            actions.extend(state.late_replace.map(|_| Action::LateReplace));
            actions.extend(state.late_fill.map(|_| Action::LateFill));
            actions.extend(state.generation.map(|_| Action::DropGeneration));
            actions.extend(state.payload.map(|_| Action::DropPayload));
        }

        fn next_state(&self, state: &State, action: Action) -> Option<State> {
            self.step(state, action).map(|(next, _)| next)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always(NO_REVIVED_PAYLOAD, |_, state: &State| !state.revived),
                Property::sometimes("a hit", |model, state| model.reaches(state, Event::Hit)),
                Property::sometimes("a void payload", |model, state| model.reaches(state, Event::Void)),
                Property::sometimes("a fill that is void", |model, state| {
                    model.reaches(state, Event::FillIsVoid)
                }),
            ]
        }
    }

    #[test]
    fn is_safe_with_two_readers_and_two_writers() {
        check_safe(Generations { readers: 2, rule: Rule::Built }, 427_000);
    }

    #[test]
    fn is_safe_when_invalidate_all_deletes_the_generation() {
        check_safe(Generations { readers: 2, rule: Rule::ReplaceByDelete }, 377_000);
    }

    #[test]
    fn breaks_with_a_generation_that_can_return() {
        for rule in [
            Rule::MissingReadsAsZero,
            Rule::ReadAfterVerification,
            Rule::CreationResent,
            Rule::ReplacementResent,
        ] {
            check_broken(Generations { readers: 2, rule }, NO_REVIVED_PAYLOAD);
        }
    }
}
