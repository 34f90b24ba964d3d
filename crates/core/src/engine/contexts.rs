//! Requests for contexts: which parts to look at, when they make up a context, and what to do when they do not.
//!
//! ```text
//! plan  -> the epoch, the own part, the tree and the roles of last time, in the batch of everybody else
//! settle -> all as before: the composed context of last time is the answer
//! cold  -> load what is missing, compose, keep
//! whole -> no store: everything in one statement
//! ```
//!
//! Invariant: a kept context is answered only while every part it was composed of is confirmed, and before an
//! assignment in it expires.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::Cache as Bounded;
use tokio::sync::mpsc;

use crate::base::error::{Code, Error};
use crate::base::key::{Key, Namespace};
use crate::cache::near::NearEntry;
use crate::cache::policy::{NearMode, Subject};
use crate::cache::tiered::{Judged, Look};
use crate::cache::{Found, Loaded};
use crate::config::Settings;
use crate::rbac::subject::{WholeSubject, body};
use crate::rbac::{
    Composed, Denied, Names, RolePart, RoleSubject, Tree, TreeSubject, UserContextSubject, UserPart, compose,
    epoch_key,
};
use crate::source::Whole;
use crate::store::{Op, Reply, StoreResult};
use crate::telemetry::Tier;

use super::fallbacks::Past;
use super::gather::{Announced, Gather, Want};
use super::hot::{Hot, Plan};
use super::{Core, Outcome, Started};

/// Parsed parts and composed contexts that wait to be compared with a sample of the source.
const SAMPLES: usize = 64;

/// How current a context must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing older than the last acknowledged invalidation; or as the namespace is configured.
    Validated,
    /// At most so old as `RBAC_BOUNDED_MS` says, without a round trip while announcements arrive.
    Bounded,
    /// What the source says now.
    Fresh,
}

/// Position of the epoch among the tracked near copies.
const EPOCH_AT: usize = 2;

/// What the engine keeps for contexts.
pub(super) struct Rbac {
    pub(super) names: Names,
    pub(super) gather: Gather,
    bounded_ms: u64,
    /// Composed contexts by user id, bounded in bytes.
    kept: Bounded<String, Arc<Kept>, ByText, ahash::RandomState>,
    /// Parsed roles and trees by etag and length of what they were parsed from.
    parsed: Bounded<(u64, usize), Parsed>,
    per_million: u32,
    pub(super) samples: mpsc::Sender<Sample>,
    /// Taken by the sampler when the engine starts.
    pub(super) sampled: parking_lot::Mutex<Option<mpsc::Receiver<Sample>>>,
}

/// A context that was just served from the cache.
pub(super) struct Sample {
    pub(super) user: UserContextSubject,
    pub(super) text: Bytes,
    /// How it was asked for.
    pub(super) consistency: Consistency,
}

#[derive(Clone)]
enum Parsed {
    Role(Arc<RolePart>),
    Tree(Arc<Tree>),
}

#[derive(Clone)]
struct ByText;

impl Weighter<String, Arc<Kept>> for ByText {
    fn weight(&self, key: &String, kept: &Arc<Kept>) -> u64 {
        (key.len() + kept.composed.text.len() + 512) as u64
    }
}

/// A composed context and what it was composed of.
pub(super) struct Kept {
    composed: Composed,
    /// Number of the object that JavaScript made of it.
    serial: u64,
    /// Etags: own part, tree, roles in order.
    stamp: Vec<u64>,
    roles: Vec<RoleSubject>,
    /// The near copies of all parts, for answering without asking. Written when a validated answer renews
    /// them, read by every bounded one; a lock, because they change together.
    tracked: RwLock<Vec<Tracked>>,
}

struct Tracked {
    slot: usize,
    epoch: u64,
    near: Arc<NearEntry>,
}

/// A context on its way.
pub(super) struct ContextHot {
    user: UserContextSubject,
    consistency: Consistency,
    full: bool,
    kept: Option<Arc<Kept>>,
    looks: Vec<(Piece, Look)>,
    ops: usize,
    judged: Vec<(Piece, Judged)>,
    /// Why it goes on without the store, should its parts not make it up.
    past: Option<Past>,
}

/// Which part.
enum Piece {
    User,
    Tree,
    Role(RoleSubject),
}

impl ContextHot {
    pub(super) fn ops(&self) -> usize {
        self.ops
    }
}

impl Rbac {
    pub(super) fn new(settings: &Settings) -> Self {
        let bytes = settings.near.bytes / 4;
        let (samples, sampled) = mpsc::channel(SAMPLES);
        let items = (bytes / 8_192).clamp(16, 1 << 20) as usize;
        Self {
            names: Names {
                super_admin: settings.rbac.super_admin_roles.clone(),
                organization_admin: settings.rbac.organization_admin_roles.clone(),
            },
            gather: Gather::default(),
            bounded_ms: settings.rbac.bounded_ms,
            kept: Bounded::with(items, bytes, ByText, ahash::RandomState::new(), Default::default()),
            parsed: Bounded::new(1_024),
            per_million: settings.rbac.sample_per_million as u32,
            samples,
            sampled: parking_lot::Mutex::new(Some(sampled)),
        }
    }

    /// Every so many served contexts one is compared with the source.
    fn chooses(&self) -> bool {
        self.per_million > 0 && fastrand::u32(..1_000_000) < self.per_million
    }

    /// One more than can wait is left out.
    fn sample(&self, user: UserContextSubject, text: &Bytes, consistency: Consistency) {
        let _ = self.samples.try_send(Sample { user, text: text.clone(), consistency });
    }
}

impl Core {
    /// The hot half: what to ask the store.
    pub(super) fn plan_context(
        &self,
        user_id: &str,
        consistency: Consistency,
        full: bool,
        ops: &mut Vec<Op>,
        started: Started,
    ) -> Result<Plan, Error> {
        let keys = &self.cache.keys;
        let user = UserContextSubject::new(keys, user_id)?;
        if let Some(kept) = self.unasked_context(&user.user_id, consistency) {
            self.fallbacks.reads.up();
            self.count_context(Tier::Near, false, started);
            self.sample(&user, &kept.composed.text, consistency);
            return Ok(Plan::Now(object(&kept, full)));
        }
        let epoch = epoch_key(keys);
        if consistency == Consistency::Fresh || !self.cache.usable(&epoch) {
            return Ok(Plan::Task);
        }
        if consistency == Consistency::Bounded {
            self.cache.want_announcements();
        }
        self.fallbacks.reads.up();
        let kept = self.rbac.kept.get(&user.user_id);
        let before = ops.len();
        let mut looks = Vec::with_capacity(2 + kept.as_ref().map_or(0, |kept| kept.roles.len()));
        looks.push((Piece::User, self.cache.look_sharing(&user, started.moment, ops)));
        looks.push((Piece::Tree, self.cache.look_sharing(&TreeSubject::new(keys), started.moment, ops)));
        for role in kept.iter().flat_map(|kept| &kept.roles) {
            let look = self.cache.look_sharing(role, started.moment, ops);
            looks.push((Piece::Role(role.clone()), look));
        }
        ops.push(Op::Get(epoch));
        let (ops, judged, past) = (ops.len() - before, Vec::new(), None);
        let hot = ContextHot { user, consistency, full, kept, looks, ops, judged, past };
        Ok(Plan::Hot(Hot::Context(Box::new(hot))))
    }

    /// Judges the replies; `None` = it needs a task.
    pub(super) fn settle_context(
        &self,
        hot: &mut ContextHot,
        replies: &[StoreResult],
        started: Started,
    ) -> Option<Outcome> {
        hot.past = self.past_because(hot.looks.iter().any(|(_, look)| look.ops == 0), replies);
        let (epoch, replies) = replies.split_last()?;
        let mut at = 0;
        for (piece, look) in hot.looks.drain(..) {
            // Each part is judged with the epoch that came in the same round trip.
            let mine: Vec<StoreResult> = match look.ops {
                0 => Vec::new(),
                _ => vec![replies[at].clone(), epoch.clone()],
            };
            at += look.ops;
            let judged = match &piece {
                Piece::User => self.cache.judge(&hot.user, look, &mine),
                Piece::Tree => self.cache.judge(&TreeSubject::new(&self.cache.keys), look, &mine),
                Piece::Role(role) => self.cache.judge(role, look, &mine),
            };
            hot.judged.push((piece, judged));
        }
        if let Some((_, Judged::Found(user))) = hot.judged.first()
            && let Err(denied) = body(user)
        {
            self.count_context(user.tier, true, started);
            return Some(denial(denied));
        }
        let kept = hot.kept.as_ref()?;
        let mut tier = Tier::Near;
        let mut found = hot.judged.iter().map(|(_, judged)| match judged {
            Judged::Found(found) => {
                tier = slower(tier, found.tier);
                found.etag
            }
            _ => 0,
        });
        let confirmed = kept.stamp.iter().all(|etag| *etag != 0 && found.next() == Some(*etag));
        if !confirmed || self.cache.clock.unix_ms() >= kept.composed.until_unix_ms {
            return None;
        }
        if self.cache.listens() {
            self.track(&hot.user, kept);
        }
        self.telemetry.contexts_reused.up();
        self.count_context(tier, false, started);
        self.sample(&hot.user, &kept.composed.text, hot.consistency);
        Some(object(kept, hot.full))
    }

    /// What the parts that were looked at do not make up: loads the rest.
    pub(super) async fn cold_context(self: &Arc<Self>, hot: ContextHot, started: Started) -> Outcome {
        let ContextHot { user, consistency, full, judged, past, .. } = hot;
        if let Some(why) = past {
            self.went_past(Namespace::UserContext, why);
        }
        match self.assemble(&user, judged, started).await {
            Ok(Ok((kept, tier))) => {
                self.count_context(tier, false, started);
                self.sample(&user, &kept.composed.text, consistency);
                Outcome::Object {
                    serial: kept.serial,
                    text: (full || kept.serial == 0 || tier != Tier::Near)
                        .then(|| kept.composed.text.clone()),
                }
            }
            Ok(Err(denied)) => {
                self.count_context(Tier::Source, true, started);
                denial(denied)
            }
            Err(error) => {
                self.telemetry.of(Namespace::UserContext).errors.up();
                Outcome::Failed(error)
            }
        }
    }

    /// A context that cannot come from parts: asked for fresh, or no store to keep them in.
    pub(super) async fn whole_context(
        self: &Arc<Self>,
        user_id: &str,
        consistency: Consistency,
        started: Started,
    ) -> Outcome {
        let user = match UserContextSubject::new(&self.cache.keys, user_id) {
            Ok(user) => user,
            Err(error) => return error.into(),
        };
        let whole = match consistency {
            Consistency::Fresh => self.fresh_context(&user).await,
            _ => {
                self.fallbacks.reads.up();
                self.went_past(Namespace::UserContext, self.unasked_because());
                self.shared_context(&user, started).await
            }
        };
        match whole {
            Ok(Ok(composed)) => {
                self.count_context(Tier::Source, false, started);
                Outcome::Object { serial: 0, text: Some(composed.text) }
            }
            Ok(Err(denied)) => {
                self.count_context(Tier::Source, true, started);
                denial(denied)
            }
            Err(error) => {
                self.telemetry.of(Namespace::UserContext).errors.up();
                Outcome::Failed(error)
            }
        }
    }

    /// The context as the source says it now, in one statement.
    pub(super) async fn fresh_context(
        &self,
        user: &UserContextSubject,
    ) -> Result<Result<Composed, Denied>, Error> {
        match self.source.rbac_context(&user.user_id).await? {
            Ok(whole) => self.compose_whole(user, &whole).map(Ok),
            Err(denied) => Ok(Err(denied)),
        }
    }

    /// As `fresh_context`, one statement for all who ask at the same time.
    async fn shared_context(
        &self,
        user: &UserContextSubject,
        started: Started,
    ) -> Result<Result<Composed, Denied>, Error> {
        let subject = WholeSubject(user.clone());
        let asked = self.cache.ask_at(&subject, started.moment);
        let found = self
            .cache
            .load(&subject, asked, |_| async {
                Ok(match self.source.rbac_context(&user.user_id).await? {
                    Ok(Whole { user, roles, tree }) => {
                        let parts =
                            [&b"{\"user\":"[..], &user, b",\"roles\":", &roles, b",\"tree\":", &tree, b"}"];
                        Loaded {
                            kind: crate::base::codec::Kind::Value,
                            payload: parts.concat().into(),
                            ttl_ms: 0,
                        }
                    }
                    Err(denied) => Loaded {
                        kind: crate::base::codec::Kind::Negative,
                        payload: Bytes::from_static(denied.name().as_bytes()),
                        ttl_ms: 0,
                    },
                })
            })
            .await?;
        if found.negative() {
            return Ok(Err(Denied::parse(std::str::from_utf8(&found.payload).unwrap_or_default())));
        }
        let whole = whole_of(&found.payload).ok_or_else(unreadable)?;
        self.compose_whole(user, &whole).map(Ok)
    }

    fn compose_whole(&self, user: &UserContextSubject, whole: &Whole) -> Result<Composed, Error> {
        let part = UserPart::read(&user.user_id, &whole.user).ok_or_else(unreadable)?;
        let raw: Vec<&serde_json::value::RawValue> =
            serde_json::from_slice(&whole.roles).map_err(|_| unreadable())?;
        let mut roles = Vec::with_capacity(raw.len());
        for id in part.role_ids() {
            let json = raw.iter().map(|raw| whole.roles.slice_ref(raw.get().as_bytes()));
            roles.extend(json.filter_map(|json| RolePart::read(id, json)).map(Arc::new));
        }
        let tree = Tree::read(whole.tree.clone()).ok_or_else(unreadable)?;
        self.telemetry.contexts_composed.up();
        Ok(compose(&part, &roles, &tree, &self.rbac.names, self.cache.clock.unix_ms()))
    }

    /// Loads what was not found, and composes.
    async fn assemble(
        self: &Arc<Self>,
        user: &UserContextSubject,
        judged: Vec<(Piece, Judged)>,
        started: Started,
    ) -> Result<Result<(Arc<Kept>, Tier), Denied>, Error> {
        let (mut own, mut organizations, mut known) = (None, None, Vec::new());
        for (piece, judged) in judged {
            match piece {
                Piece::User => own = Some(judged),
                Piece::Tree => organizations = Some(judged),
                Piece::Role(role) => known.push((role, judged)),
            }
        }
        let tree = TreeSubject::new(&self.cache.keys);
        let own = own.unwrap_or_else(|| Judged::Miss(self.cache.ask_at(user, started.moment)));
        let organizations =
            organizations.unwrap_or_else(|| Judged::Miss(self.cache.ask_at(&tree, started.moment)));
        let (first, second) = (self.announce_part(user, &own), self.announce_part(&tree, &organizations));
        let (own, organizations) = tokio::join!(
            self.resolve(user, own, |epoch| async move {
                Ok(user.loaded(epoch, &self.part(Want::User(user.user_id.clone()), first).await?))
            }),
            self.organizations(organizations, second),
        );
        let (own, organizations) = (own?, organizations?);
        let json = match body(&own) {
            Ok(json) => json,
            Err(denied) => return Ok(Err(denied)),
        };
        let Some(part) = UserPart::read(&user.user_id, &json) else {
            return self.corrupt(Namespace::UserContext, user).await;
        };
        let found = self.roles(&part, known, started).await?;
        let Some(tree) = self.parsed_tree(&organizations) else {
            return self.corrupt(Namespace::OrganizationTree, user).await;
        };
        let mut tier = slower(own.tier, organizations.tier);
        let mut stamp = vec![own.etag, organizations.etag];
        let (mut roles, mut subjects) = (Vec::with_capacity(found.len()), Vec::with_capacity(found.len()));
        for (subject, found) in found {
            tier = slower(tier, found.tier);
            stamp.push(found.etag);
            if body(&found).is_ok() {
                let Some(role) = self.parsed_role(&subject, &found) else {
                    return self.corrupt(Namespace::RolePermissions, user).await;
                };
                roles.push(role);
            }
            subjects.push(subject);
        }
        if let Some(kept) = self.rbac.kept.get(&user.user_id)
            && kept.stamp == stamp
            && !stamp.contains(&0)
            && self.cache.clock.unix_ms() < kept.composed.until_unix_ms
        {
            self.telemetry.contexts_reused.up();
            // JavaScript may not know this number: the text goes with it.
            return Ok(Ok((kept, slower(tier, Tier::Store))));
        }
        let composed = compose(&part, &roles, &tree, &self.rbac.names, self.cache.clock.unix_ms());
        self.telemetry.contexts_composed.up();
        Ok(Ok((self.keep_context(user, composed, stamp, subjects), slower(tier, Tier::Store))))
    }

    fn keep_context(
        &self,
        user: &UserContextSubject,
        composed: Composed,
        stamp: Vec<u64>,
        roles: Vec<RoleSubject>,
    ) -> Arc<Kept> {
        let storable = !stamp.contains(&0)
            && self.rbac.kept.capacity() > 0
            && self.cache.mode(Namespace::UserContext) != NearMode::Off;
        let serial = if storable { self.cache.near.next_serial() } else { 0 };
        let kept = Arc::new(Kept { composed, serial, stamp, roles, tracked: RwLock::default() });
        if storable {
            if self.cache.listens() {
                self.track(user, &kept);
            }
            self.rbac.kept.insert(user.user_id.clone(), kept.clone());
        }
        kept
    }

    /// The organizations: what a look at them said, or what it takes to find out.
    pub(super) async fn organizations(
        self: &Arc<Self>,
        judged: Judged,
        announced: Option<Announced>,
    ) -> Result<Found, Error> {
        let tree = TreeSubject::new(&self.cache.keys);
        let loader = |epoch| async move {
            let tree = TreeSubject::new(&self.cache.keys);
            Ok(tree.loaded(epoch, &self.part(Want::Tree, announced).await?))
        };
        self.resolve(&tree, judged, loader).await
    }

    /// As `organizations`, a role.
    pub(super) async fn role(
        self: &Arc<Self>,
        role: &RoleSubject,
        judged: Judged,
        announced: Option<Announced>,
    ) -> Result<Found, Error> {
        let loader = |epoch| async move {
            Ok(role.loaded(epoch, &self.part(Want::Role(role.role_id.clone()), announced).await?))
        };
        self.resolve(role, judged, loader).await
    }

    /// The roles of a part: those that were looked at already, and the rest in one more round trip.
    async fn roles(
        self: &Arc<Self>,
        part: &UserPart,
        mut known: Vec<(RoleSubject, Judged)>,
        started: Started,
    ) -> Result<Vec<(RoleSubject, Found)>, Error> {
        let (mut ops, mut looks, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for id in part.role_ids() {
            match known.iter().position(|(subject, _)| subject.role_id == id) {
                Some(at) => wanted.push(known.swap_remove(at)),
                None => {
                    let subject = RoleSubject::new(&self.cache.keys, id)?;
                    looks.push((self.cache.look_sharing(&subject, started.moment, &mut ops), subject));
                }
            }
        }
        if !looks.is_empty() {
            ops.push(Op::Get(epoch_key(&self.cache.keys)));
            let replies = self.cache.exec(ops).await;
            let epoch = replies.last().cloned().unwrap_or(Ok(Reply::Bytes(None)));
            let mut at = 0;
            for (look, subject) in looks {
                let mine = if look.ops == 0 { Vec::new() } else { vec![replies[at].clone(), epoch.clone()] };
                at += look.ops;
                let judged = self.cache.judge(&subject, look, &mine);
                wanted.push((subject, judged));
            }
        }
        wanted.sort_by(|(a, _), (b, _)| a.role_id.cmp(&b.role_id));
        let loads = wanted.into_iter().map(|(subject, judged)| {
            let announced = self.announce_part(&subject, &judged);
            async move {
                let found = self.role(&subject, judged, announced).await?;
                Ok((subject, found))
            }
        });
        let loads: Vec<_> = loads.collect();
        futures_util::future::try_join_all(loads).await
    }

    /// Whether this process may answer without asking; the context if so.
    pub(super) fn unasked_context(&self, user_id: &str, consistency: Consistency) -> Option<Arc<Kept>> {
        let configured = match self.cache.mode(Namespace::UserContext) {
            NearMode::Bounded { max_age_ms } => Some(max_age_ms),
            _ => None,
        };
        let max_age_ms = match consistency {
            Consistency::Validated => configured?,
            Consistency::Bounded => configured.unwrap_or(self.rbac.bounded_ms),
            Consistency::Fresh => return None,
        };
        if !self.cache.unasked() {
            return None;
        }
        let kept = self.rbac.kept.get(user_id)?;
        let now_ms = self.cache.clock.now_ms();
        let tracked = kept.tracked.read();
        let current = |one: &Tracked| {
            self.cache.near.epoch_at(one.slot) == one.epoch
                && now_ms < one.near.until_ms
                && now_ms.saturating_sub(one.near.checked_ms()) < max_age_ms
        };
        let good = !tracked.is_empty()
            && tracked.iter().all(current)
            && self.cache.clock.unix_ms() < kept.composed.until_unix_ms;
        drop(tracked);
        good.then_some(kept)
    }

    /// Number of a context that may be answered without asking, for the JavaScript thread; 0 = ask.
    pub fn peek_context(&self, user_id: &str, consistency: Consistency) -> u64 {
        match self.unasked_context(user_id, consistency) {
            Some(kept) => {
                self.telemetry.contexts_reused.up();
                self.peeked(Namespace::UserContext);
                if self.rbac.chooses()
                    && let Ok(user) = UserContextSubject::new(&self.cache.keys, user_id)
                {
                    self.rbac.sample(user, &kept.composed.text, consistency);
                }
                kept.serial
            }
            None => 0,
        }
    }

    /// Remembers the near copies that a context was composed of, if they are all of the very versions.
    fn track(&self, user: &UserContextSubject, kept: &Kept) {
        let now_ms = self.cache.clock.now_ms();
        if kept.tracked.read().iter().any(|one| one.near.checked_ms() + 1 >= now_ms) {
            return;
        }
        let keys = &self.cache.keys;
        let tree = TreeSubject::new(keys);
        let epoch = epoch_key(keys);
        let mut parts: Vec<(&Key, Option<u64>)> =
            vec![(user.key(), Some(kept.stamp[0])), (tree.key(), Some(kept.stamp[1])), (&epoch, None)];
        parts.extend(kept.roles.iter().zip(&kept.stamp[2..]).map(|(role, etag)| (role.key(), Some(*etag))));
        let near = &self.cache.near;
        let tracked: Option<Vec<Tracked>> = parts
            .into_iter()
            .map(|(key, etag)| {
                // The number first: an invalidation after this line is seen by whoever reads the number again.
                let slot = near.epoch_index(key);
                let epoch = near.epoch_at(slot);
                let entry = near.get(key, now_ms)?;
                etag.is_none_or(|etag| etag == entry.etag).then_some(Tracked { slot, epoch, near: entry })
            })
            .collect();
        let of_epoch = |parts: &Vec<Tracked>| {
            let carried = format!("{:016x}", parts[EPOCH_AT].near.etag);
            let mut others = parts.iter().enumerate().filter(|(at, _)| *at != EPOCH_AT);
            others.all(|(_, one)| one.near.payload.starts_with(carried.as_bytes()))
        };
        *kept.tracked.write() = tracked.filter(of_epoch).unwrap_or_default();
    }

    fn parsed_role(&self, subject: &RoleSubject, found: &Found) -> Option<Arc<RolePart>> {
        let number = (found.etag, found.payload.len());
        if let Some(Parsed::Role(role)) = self.rbac.parsed.get(&number).filter(|_| found.etag != 0)
            && role.role_id == subject.role_id
        {
            return Some(role);
        }
        let role = Arc::new(RolePart::read(&subject.role_id, body(found).ok()?)?);
        if found.etag != 0 {
            self.rbac.parsed.insert(number, Parsed::Role(role.clone()));
        }
        Some(role)
    }

    fn parsed_tree(&self, found: &Found) -> Option<Arc<Tree>> {
        let number = (found.etag, found.payload.len());
        if let Some(Parsed::Tree(tree)) = self.rbac.parsed.get(&number).filter(|_| found.etag != 0) {
            return Some(tree);
        }
        let tree = Arc::new(Tree::read(body(found).ok()?)?);
        if found.etag != 0 {
            self.rbac.parsed.insert(number, Parsed::Tree(tree.clone()));
        }
        Some(tree)
    }

    /// A part that passed its checksum and yet is none: the source answers instead.
    async fn corrupt(
        &self,
        namespace: Namespace,
        user: &UserContextSubject,
    ) -> Result<Result<(Arc<Kept>, Tier), Denied>, Error> {
        self.telemetry.of(namespace).corrupt.up();
        Ok(self.fresh_context(user).await?.map(|composed| {
            let tracked = RwLock::default();
            (
                Arc::new(Kept { composed, serial: 0, stamp: Vec::new(), roles: Vec::new(), tracked }),
                Tier::Source,
            )
        }))
    }

    fn sample(&self, user: &UserContextSubject, text: &Bytes, consistency: Consistency) {
        if self.rbac.chooses() {
            self.rbac.sample(user.clone(), text, consistency);
        }
    }

    fn count_context(&self, tier: Tier, negative: bool, started: Started) {
        let us = self.cache.clock.now_us().saturating_sub(started.us);
        self.telemetry.of(Namespace::UserContext).answered(tier, negative, us);
    }
}

/// The context as JavaScript gets it: by its number when it should be known there.
fn object(kept: &Kept, full: bool) -> Outcome {
    let text = (full || kept.serial == 0).then(|| kept.composed.text.clone());
    Outcome::Object { serial: kept.serial, text }
}

fn denial(denied: Denied) -> Outcome {
    Outcome::Failed(Error {
        code: Code::NotFound,
        message: match denied {
            Denied::Unknown => "there is no such user",
            Denied::Inactive => "the user is deactivated",
            Denied::Deleted => "the user was deleted",
        }
        .into(),
        field: Some("userId".into()),
        reason: Some(denied.name()),
    })
}

fn slower(a: Tier, b: Tier) -> Tier {
    if a as usize >= b as usize { a } else { b }
}

fn whole_of(payload: &Bytes) -> Option<Whole> {
    #[derive(serde::Deserialize)]
    struct Json<'a> {
        #[serde(borrow)]
        user: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        roles: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        tree: &'a serde_json::value::RawValue,
    }
    let json: Json<'_> = serde_json::from_slice(payload).ok()?;
    let slice = |raw: &serde_json::value::RawValue| payload.slice_ref(raw.get().as_bytes());
    Some(Whole { user: slice(json.user), roles: slice(json.roles), tree: slice(json.tree) })
}

fn unreadable() -> Error {
    Error::new(Code::Internal, "the source gave a context that cannot be read")
}
