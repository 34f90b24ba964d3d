//! Operations as commands, replies as answers. Pure: no I/O here.
//!
//! Invariant: a reply of an unexpected shape is `Unavailable`, never a value and never "absent": a
//! server that answers nonsense is out of service.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Script, ServerError, Value};
use smallvec::smallvec;

use crate::base::codec::HEADER;
use crate::base::limits;
use crate::limiter::{Action, Evaluations, Form, Limit, Run, script as limits_script};
use crate::store::{Member, Op, Reply, StoreError, StoreResult};

use super::{Able, Step, each};

/// A script with its digest.
struct Lua {
    text: &'static str,
    sha: String,
}

impl Lua {
    fn new(text: &'static str) -> Self {
        Self { text, sha: Script::new(text).get_hash().to_owned() }
    }
}

static SWAP: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/swap.lua")));
static REPLACE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/replace.lua")));
static RING: LazyLock<Lua> = LazyLock::new(|| Lua::new(limits_script::text(Form::Ring)));
static COARSE: LazyLock<Lua> = LazyLock::new(|| Lua::new(limits_script::text(Form::Coarse)));
static LIMITS: LazyLock<Lua> = LazyLock::new(|| Lua::new(limits_script::ALL));
static CHECKS: LazyLock<Lua> = LazyLock::new(|| Lua::new(limits_script::EACH));
static RELEASE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/release.lua")));
static LIFE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/life.lua")));
static PROLONG: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/prolong.lua")));
static COUNT: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/count.lua")));
static TAG: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/tag.lua")));
static UNTAG: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("../scripts/untag.lua")));

/// What became of one step.
#[derive(Debug)]
pub(super) enum Answer {
    /// Answered, or failed for good.
    Final(StoreResult),
    /// The server forgot the script.
    NoScript,
    /// Another node is responsible; `asking` for one command only.
    Redirect { address: String, asking: bool },
    /// The server does not take keys of several slots in one command; it did nothing.
    Apart,
    /// The server does not take the note beside what it is told; it did nothing.
    Unnoted,
}

/// The commands of one pipeline and where each step's answer will be found.
pub(super) struct Batch {
    pipeline: Pipeline,
    places: Vec<Place>,
    /// Steps whose checks share a script, and the number of its reply.
    scripts: Vec<(usize, Vec<usize>)>,
}

#[derive(Clone, Copy)]
enum Place {
    /// Reply number so.
    Whole(usize),
    /// Element of the MGET that is reply number so.
    Element(usize, usize),
    /// One of the checks of a script.
    Check,
}

impl Batch {
    pub(super) fn new(ops: &[Op], steps: &[Step], able: Able) -> Self {
        let mut batch = Self {
            pipeline: Pipeline::with_capacity(steps.len().min(64)),
            places: Vec::with_capacity(steps.len()),
            scripts: Vec::new(),
        };
        let gather =
            able.together && steps.iter().filter(|step| matches!(ops[step.op], Op::Get(_))).count() > 1;
        let mut open: Option<(Cmd, usize)> = None;
        // What a read finds must not be older than what this says of it.
        let mut early = Vec::new();
        for step in steps.iter().filter(|step| matches!(ops[step.op], Op::Left(_))) {
            early.push(batch.push(ops, step, able));
        }
        let mut early = early.into_iter();
        let first_read = batch.len();
        // The MGET goes before the rest, so that its reply number is known before it is full.
        if gather {
            for step in steps {
                if let Op::Get(key) = &ops[step.op] {
                    let (command, count) = open.get_or_insert_with(|| (redis::cmd("MGET"), 0));
                    command.arg(key.bytes());
                    *count += 1;
                    if *count == limits::MGET_KEYS
                        && let Some((command, _)) = open.take()
                    {
                        batch.pipeline.add_command(command);
                    }
                }
            }
            if let Some((command, _)) = open.take() {
                batch.pipeline.add_command(command);
            }
        }
        let groups = if able.together { each::gather(ops, steps) } else { Vec::new() };
        let mut checked = vec![false; if groups.is_empty() { 0 } else { steps.len() }];
        for group in groups {
            group.iter().for_each(|place| checked[*place] = true);
            let reply = batch.len();
            batch.pipeline.add_command(checks(ops, steps, &group, able));
            batch.scripts.push((reply, group));
        }
        let mut gathered = 0;
        for (place, step) in steps.iter().enumerate() {
            let op = &ops[step.op];
            if checked.get(place) == Some(&true) {
                batch.places.push(Place::Check);
                continue;
            }
            if gather && matches!(op, Op::Get(_)) {
                let at = first_read + gathered / limits::MGET_KEYS;
                batch.places.push(Place::Element(at, gathered % limits::MGET_KEYS));
                gathered += 1;
                continue;
            }
            let at = match op {
                Op::Left(_) => early.next().expect("every one of them was sent above"),
                _ => batch.push(ops, step, able),
            };
            batch.places.push(Place::Whole(at));
        }
        batch
    }

    /// Adds one command; the number of its reply.
    fn push(&mut self, ops: &[Op], step: &Step, able: Able) -> usize {
        if step.asking {
            self.pipeline.add_command(redis::cmd("ASKING"));
        }
        self.pipeline.add_command(command(&ops[step.op], step, able.together));
        self.pipeline.len() - 1
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Number of replies to expect.
    pub(super) fn len(&self) -> usize {
        self.pipeline.len()
    }

    /// Replies, put back to their steps.
    pub(super) fn answers(&self, ops: &[Op], steps: &[Step], mut values: Vec<Value>) -> Vec<Answer> {
        if values.len() != self.len() {
            return steps.iter().map(|_| Answer::Final(Err(nonsense()))).collect();
        }
        let mut checked: Vec<Option<Answer>> = Vec::new();
        for (reply, group) in &self.scripts {
            checked.resize_with(steps.len(), || None);
            for (place, answer) in group.iter().zip(checks_answered(ops, steps, group, &values[*reply])) {
                checked[*place] = Some(answer);
            }
        }
        steps
            .iter()
            .zip(&self.places)
            .enumerate()
            .map(|(at, (step, place))| {
                let value = match *place {
                    Place::Whole(at) => std::mem::take(&mut values[at]),
                    Place::Element(at, element) => match &mut values[at] {
                        Value::Array(items) if element < items.len() => std::mem::take(&mut items[element]),
                        Value::ServerError(error) if error.code() == "CROSSSLOT" => return Answer::Apart,
                        Value::ServerError(error) => Value::ServerError(error.clone()),
                        _ => return Answer::Final(Err(nonsense())),
                    },
                    Place::Check => {
                        let answer = checked.get_mut(at).and_then(Option::take);
                        return answer.unwrap_or_else(|| Answer::Final(Err(nonsense())));
                    }
                };
                answer(&ops[step.op], value)
            })
            .collect()
    }
}

fn command(op: &Op, step: &Step, together: bool) -> Cmd {
    let whole_script = step.whole_script;
    let mut command;
    if let Some(check) = each::check(op) {
        command = script(&CHECKS, whole_script, 1);
        each::arguments(&mut command, std::iter::once(check), false);
        return command;
    }
    match op {
        Op::Get(key) => {
            command = redis::cmd("GET");
            command.arg(key.bytes());
        }
        Op::Head(key) => {
            command = redis::cmd("GETRANGE");
            command.arg(key.bytes()).arg(0).arg(HEADER - 1);
        }
        Op::Left(key) => {
            command = redis::cmd("PTTL");
            command.arg(key.bytes());
        }
        Op::Add { key, value, ttl_ms } => {
            command = redis::cmd("SET");
            command.arg(key.bytes()).arg(&value[..]).arg("NX").arg("PX").arg(*ttl_ms);
        }
        Op::Put { key, value, ttl_ms } => {
            command = redis::cmd("SET");
            command.arg(key.bytes()).arg(&value[..]).arg("PX").arg(*ttl_ms);
        }
        Op::Delete(key) => {
            command = redis::cmd("DEL");
            command.arg(key.bytes());
        }
        Op::Swap { key, expected, value, ttl_ms } => {
            command = script(&SWAP, whole_script, 1);
            command.arg(key.bytes()).arg(&expected[..]).arg(&value[..]).arg(*ttl_ms);
        }
        Op::Replace { key, head, value, ttl_ms } => {
            command = script(&REPLACE, whole_script, 1);
            command.arg(key.bytes()).arg(&head[..]).arg(&value[..]).arg(*ttl_ms);
        }
        Op::Release { key, expected } => {
            command = script(&RELEASE, whole_script, 1);
            command.arg(key.bytes()).arg(&expected[..]);
        }
        Op::Life(key) => {
            command = script(&LIFE, whole_script, 1);
            command.arg(key.bytes());
        }
        Op::Prolong { key, ttl_ms } => {
            command = script(&PROLONG, whole_script, 1);
            command.arg(key.bytes()).arg(*ttl_ms);
        }
        Op::Keep { key, ttl_ms } => {
            command = redis::cmd("PEXPIRE");
            command.arg(key.bytes()).arg(*ttl_ms);
        }
        Op::Count { key, delta, ttl_ms, etag } => {
            command = script(&COUNT, whole_script, 1);
            command.arg(key.bytes()).arg(*delta).arg(*ttl_ms).arg(format!("{etag:016x}"));
        }
        Op::Tag { tag, member, ttl_ms, nonce } => {
            command = script(&TAG, whole_script, 1);
            command.arg(tag.bytes()).arg(&member[..]).arg(*ttl_ms).arg(*nonce);
        }
        Op::Tagged(tag) => {
            command = redis::cmd("ZRANGE");
            command.arg(tag.bytes()).arg(0).arg(limits::TAGGED_KEYS - 1).arg("WITHSCORES");
        }
        Op::Untag { tag, seen } => {
            command = script(&UNTAG, whole_script, 1);
            command.arg(tag.bytes());
            for (member, stamp) in seen {
                command.arg(&member[..]).arg(*stamp);
            }
        }
        Op::Limit { key, limit, action } => {
            command = script(machine(limit), whole_script, 1);
            command.arg(key.bytes());
            limits_script::arguments(limit, action, None, |argument| {
                command.arg(argument);
            });
        }
        Op::Tell { key, limit, mark, aged } => {
            let (machine, told) = (machine(limit), key.told(*mark));
            // A cluster takes both in one command only where they share a slot, and those without an identifier do not.
            let noted = !step.unnoted && (together || told.slot() == key.slot());
            command = script(machine, whole_script, 1 + usize::from(noted));
            command.arg(key.bytes());
            if noted {
                command.arg(told.bytes());
            }
            limits_script::arguments(limit, &Action::Merge(aged.clone()), None, |argument| {
                command.arg(argument);
            });
        }
        Op::LimitAll(checks) => {
            command = script(&LIMITS, whole_script, checks.len());
            for check in checks {
                command.arg(check.key.bytes());
            }
            limits_script::arguments_of_all(checks, None, |argument| {
                command.arg(argument);
            });
        }
        Op::Announce(message) => {
            command = redis::cmd("PUBLISH");
            let at = message.iter().position(|byte| *byte == b'\n').unwrap_or(message.len());
            command.arg(&message[..at]).arg(message.get(at + 1..).unwrap_or_default());
        }
    }
    command
}

fn machine(limit: &Limit) -> &'static Lua {
    if limit.form() == Form::Ring { &RING } else { &COARSE }
}

fn script(lua: &Lua, whole: bool, keys: usize) -> Cmd {
    let mut command;
    if whole {
        command = redis::cmd("EVAL");
        command.arg(lua.text);
    } else {
        command = redis::cmd("EVALSHA");
        command.arg(&lua.sha);
    }
    command.arg(keys);
    command
}

/// One command for the checks of these steps.
fn checks(ops: &[Op], steps: &[Step], group: &[usize], able: Able) -> Cmd {
    let whole_script = group.iter().any(|place| steps[*place].whole_script);
    let mut command = script(&CHECKS, whole_script, group.len());
    let checks = group.iter().filter_map(|place| each::check(&ops[steps[*place].op]));
    each::arguments(&mut command, checks, able.msetex);
    command
}

/// What a limit's script says.
fn limits_of(op: &Op, value: &Value) -> Option<Evaluations> {
    if let Some((_, _, run)) = each::check(op) {
        return each::evaluations(value, std::iter::once(run));
    }
    let Value::Array(items) = value else { return None };
    let number = |item: &Value| if let Value::Int(number) = item { Some(*number) } else { None };
    let numbers: Vec<i64> = items.iter().map(number).collect::<Option<_>>()?;
    match op {
        Op::Limit { action, .. } => limits_script::evaluation(action, &numbers).map(|one| smallvec![one]),
        Op::Tell { .. } => {
            limits_script::evaluation(&Action::Merge(Vec::new()), &numbers).map(|one| smallvec![one])
        }
        Op::LimitAll(checks) => limits_script::evaluations_of_all(checks.len(), &numbers),
        _ => None,
    }
}

/// Keys and stamps, one after the other.
fn members(items: Vec<Value>) -> Option<Vec<Member>> {
    let mut items = items.into_iter();
    let mut all = Vec::with_capacity(items.len() / 2);
    while let Some(member) = items.next() {
        let (Value::BulkString(member), Some(stamp)) = (member, items.next()) else { return None };
        let stamp: f64 = text(&stamp)?.parse().ok()?;
        all.push((member.into(), stamp as u64));
    }
    Some(all)
}

/// The answers to checks that shared a script.
fn checks_answered(ops: &[Op], steps: &[Step], group: &[usize], value: &Value) -> Vec<Answer> {
    let op = |place: &usize| &ops[steps[*place].op];
    if let Value::ServerError(error) = value {
        let apart = error.code() == "CROSSSLOT";
        return group
            .iter()
            .map(|place| if apart { Answer::Apart } else { refused(op(place), error) })
            .collect();
    }
    let runs: Vec<&Run> =
        group.iter().filter_map(|place| each::check(op(place))).map(|(.., run)| run).collect();
    match each::evaluations(value, runs.into_iter()) {
        Some(all) => all.into_iter().map(|one| Answer::Final(Ok(Reply::Limits(smallvec![one])))).collect(),
        None => group.iter().map(|_| Answer::Final(Err(nonsense()))).collect(),
    }
}

fn answer(op: &Op, value: Value) -> Answer {
    if let Value::ServerError(error) = &value {
        return refused(op, error);
    }
    let reply = match (op, value) {
        (Op::Get(_), Value::Nil) => Ok(Reply::Bytes(None)),
        (Op::Get(_), Value::BulkString(bytes)) => Ok(Reply::Bytes(Some(Bytes::from(bytes)))),
        // GETRANGE of an absent key is an empty string.
        (Op::Head(_), Value::BulkString(bytes)) => {
            Ok(Reply::Bytes((!bytes.is_empty()).then(|| Bytes::from(bytes))))
        }
        (Op::Left(_), Value::Int(-2 | -1)) => Ok(Reply::Left(None)),
        (Op::Left(_), Value::Int(ms @ 0..)) => Ok(Reply::Left(Some(ms.unsigned_abs()))),
        (Op::Add { .. }, Value::Nil) => Ok(Reply::Done(false)),
        (Op::Add { .. } | Op::Put { .. }, Value::Okay) => Ok(Reply::Done(true)),
        (Op::Swap { .. } | Op::Replace { .. } | Op::Release { .. }, Value::Int(done @ 0..=1)) => {
            Ok(Reply::Done(done == 1))
        }
        (Op::Limit { .. } | Op::Tell { .. } | Op::LimitAll(_), value) => {
            limits_of(op, &value).map(Reply::Limits).ok_or_else(nonsense)
        }
        (Op::Delete(_), Value::Int(gone)) => Ok(Reply::Done(gone > 0)),
        (Op::Announce(_) | Op::Tag { .. } | Op::Untag { .. }, Value::Int(_)) => Ok(Reply::Done(true)),
        (Op::Prolong { .. } | Op::Keep { .. }, Value::Int(done @ 0..=1)) => Ok(Reply::Done(done == 1)),
        (Op::Life(_), Value::Int(ms)) => Ok(Reply::Number((ms >= 0).then_some(ms))),
        (Op::Count { .. }, Value::Int(sum)) => Ok(Reply::Number(Some(sum))),
        (Op::Count { .. }, Value::Nil) => Ok(Reply::Number(None)),
        (Op::Tagged(_), Value::Array(items)) => members(items).map(Reply::Members).ok_or_else(nonsense),
        _ => Err(nonsense()),
    };
    Answer::Final(reply)
}

fn refused(op: &Op, error: &ServerError) -> Answer {
    let details = error.details().unwrap_or_default();
    let failure = match error.code() {
        "NOSCRIPT" => return Answer::NoScript,
        code @ ("MOVED" | "ASK") => match details.split(' ').nth(1) {
            Some(address) if !address.starts_with(':') => {
                return Answer::Redirect { address: address.to_owned(), asking: code == "ASK" };
            }
            _ => StoreError::Unavailable("a redirection without an address".into()),
        },
        // A listener that cannot be told must not take the store out of service.
        code if matches!(op, Op::Announce(_)) => StoreError::Refused(code.into()),
        "WRONGTYPE" => StoreError::WrongType,
        "OOM" | "MISCONF" | "NOREPLICAS" => StoreError::WritesRefused,
        // The ACL user lacks a right: that is for an operator to see, not a reason to reconnect.
        "NOPERM" => StoreError::Refused(code_and(error, details)),
        // Another slot, or one that moves to another node just now and of which only some keys are there.
        "CROSSSLOT" | "TRYAGAIN" if matches!(op, Op::Tell { .. }) => return Answer::Unnoted,
        // About this command, which has several keys; others are answered.
        "CROSSSLOT" | "TRYAGAIN" => StoreError::Refused(code_and(error, details)),
        "ERR" if details.contains("WRONGTYPE") => StoreError::WrongType,
        "ERR" if details.contains("OOM") => StoreError::WritesRefused,
        "ERR" => StoreError::Refused(code_and(error, details)),
        code => StoreError::Unavailable(code.into()),
    };
    Answer::Final(Err(failure))
}

/// The server's words, cut: they may repeat the command's name, never a value.
fn code_and(error: &ServerError, details: &str) -> std::sync::Arc<str> {
    format!("{} {}", error.code(), details.chars().take(80).collect::<String>()).into()
}

fn nonsense() -> StoreError {
    StoreError::Unavailable("the server answered with an unexpected type".into())
}

/// Text of a simple or bulk string.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SimpleString(text) => Some(text),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Keys, Namespace};
    use crate::limiter::Aged;

    const TOGETHER: Able = Able { together: true, msetex: true };

    fn steps(count: usize) -> Vec<Step> {
        (0..count).map(Step::first).collect()
    }

    #[test]
    fn reads_share_one_command_and_come_back_in_order() {
        let keys = Keys::new("");
        let get = |part: &str| Op::Get(keys.entry(Namespace::UserBasic, part));
        let ops = [get("a"), Op::Delete(keys.entry(Namespace::UserBasic, "b")), get("c")];
        let steps = steps(3);
        let batch = Batch::new(&ops, &steps, TOGETHER);
        assert_eq!(batch.len(), 2);
        let values = vec![Value::Array(vec![Value::BulkString(b"1".to_vec()), Value::Nil]), Value::Int(1)];
        let answers = batch.answers(&ops, &steps, values);
        assert!(matches!(&answers[0], Answer::Final(Ok(Reply::Bytes(Some(bytes)))) if &bytes[..] == b"1"));
        assert!(matches!(&answers[1], Answer::Final(Ok(Reply::Done(true)))));
        assert!(matches!(&answers[2], Answer::Final(Ok(Reply::Bytes(None)))));
        assert_eq!(Batch::new(&ops, &steps, Able::default()).len(), 3);
        let refusal = redis::parse_redis_value(b"-CROSSSLOT of two\r\n").expect("a reply");
        let answers = batch.answers(&ops, &steps, vec![refusal, Value::Int(1)]);
        assert!(matches!(answers[..], [Answer::Apart, Answer::Final(Ok(_)), Answer::Apart]), "{answers:?}");
    }

    #[test]
    fn how_long_an_entry_lives_is_asked_before_it_is_read() {
        let keys = Keys::new("");
        let key = |part: &str| keys.entry(Namespace::DataSource, part);
        let ops = [
            Op::Get(key("a")),
            Op::Left(key("a")),
            Op::Get(key("b")),
            Op::Delete(key("c")),
            Op::Left(key("b")),
        ];
        let steps = steps(ops.len());
        let replies = |left: i64| {
            let read = Value::Array(vec![Value::BulkString(b"1".to_vec()), Value::Nil]);
            vec![Value::Int(left), Value::Int(-2), read, Value::Int(1)]
        };
        let gathered = Batch::new(&ops, &steps, TOGETHER);
        assert_eq!(gathered.len(), 4);
        let answers = gathered.answers(&ops, &steps, replies(7));
        assert!(matches!(&answers[0], Answer::Final(Ok(Reply::Bytes(Some(bytes)))) if &bytes[..] == b"1"));
        assert!(matches!(answers[1], Answer::Final(Ok(Reply::Left(Some(7))))));
        assert!(matches!(answers[2], Answer::Final(Ok(Reply::Bytes(None)))));
        assert!(matches!(answers[4], Answer::Final(Ok(Reply::Left(None)))));
        let hostile = gathered.answers(&ops, &steps, replies(-3));
        assert!(matches!(hostile[1], Answer::Final(Err(StoreError::Unavailable(_)))));
        let sent = |batch: &Batch| {
            let name = |command: &Cmd| match command.args_iter().next() {
                Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
                _ => String::new(),
            };
            batch.pipeline().cmd_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(sent(&gathered), ["PTTL", "PTTL", "MGET", "DEL"]);
        assert_eq!(sent(&Batch::new(&ops, &steps, Able::default())), ["PTTL", "PTTL", "GET", "GET", "DEL"]);
    }

    #[test]
    fn more_reads_than_one_command_may_carry_are_split() {
        let keys = Keys::new("");
        let count = limits::MGET_KEYS * 2 + 5;
        let ops: Vec<Op> =
            (0..count).map(|n| Op::Get(keys.entry(Namespace::UserBasic, &n.to_string()))).collect();
        let steps = steps(count);
        let batch = Batch::new(&ops, &steps, TOGETHER);
        assert_eq!(batch.len(), 3);
        let mut left = count;
        let mut at = 0;
        let values = (0..3)
            .map(|_| {
                let here = left.min(limits::MGET_KEYS);
                left -= here;
                Value::Array(
                    (0..here)
                        .map(|_| {
                            at += 1;
                            Value::BulkString(at.to_string().into_bytes())
                        })
                        .collect(),
                )
            })
            .collect();
        for (n, answer) in batch.answers(&ops, &steps, values).into_iter().enumerate() {
            assert!(
                matches!(answer, Answer::Final(Ok(Reply::Bytes(Some(bytes)))) if bytes == (n + 1).to_string()),
                "{n}"
            );
        }
    }

    fn consume(part: &str) -> Op {
        let limit = Limit::new(5, 1_000).expect("a limit");
        let action = Action::Consume(smallvec![Run { cost: 1, count: 2 }]);
        Op::Limit { key: Keys::new("").limit("t", part), limit, action }
    }

    /// What the script would say of limits of which so much is left.
    fn told(remaining: &[u8]) -> Value {
        let each = |left: &u8| [&[1, 0, 0, 0, *left][..], &[0; 8]].concat();
        Value::BulkString([0; 6].into_iter().chain(remaining.iter().flat_map(each)).collect())
    }

    fn left(answer: &Answer) -> u32 {
        match answer {
            Answer::Final(Ok(Reply::Limits(all))) => all[0].quota.remaining,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_told_is_noted_beside_the_limit_unless_that_is_another_slot() {
        let keys = Keys::new("");
        let tell = |identifier: &str| {
            let (key, limit) = (keys.limit("t", identifier), Limit::new(5, 1_000).expect("a limit"));
            Op::Tell { key, limit, mark: 7, aged: vec![Aged { age_ms: 1, count: 1 }] }
        };
        let sent = |op: Op, steps: &[Step], able: Able| {
            let batch = Batch::new(&[op], steps, able);
            let arguments = batch.pipeline().cmd_iter().flat_map(|command| command.args_iter());
            let arguments = arguments.map(|one| match one {
                redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                _ => String::new(),
            });
            arguments.skip(2).take(3).collect::<Vec<_>>()
        };
        let of = |identifier: &str, able: Able| sent(tell(identifier), &steps(1), able);
        let noted = ["2", "ratelimit:t:{u}", "ratelimit:t:{u}:told:0000000000000007"];
        assert_eq!(of("u", Able::default()), noted, "the identifier is the hash tag of both");
        assert_eq!(of("", TOGETHER)[..2], ["2", "ratelimit:t:{}"]);
        assert_eq!(of("", Able::default()), ["1", "ratelimit:t:{}", "merge"]);
        for code in ["CROSSSLOT", "TRYAGAIN"] {
            let error =
                redis::parse_redis_value(format!("-{code} refused\r\n").as_bytes()).expect("an error");
            let batch = Batch::new(&[tell("u")], &steps(1), TOGETHER);
            let told = batch.answers(&[tell("u")], &steps(1), vec![error]);
            assert!(matches!(told[..], [Answer::Unnoted]), "{code}: it did nothing, {told:?}");
        }
        let again = [Step { unnoted: true, ..Step::first(0) }];
        assert_eq!(sent(tell("u"), &again, TOGETHER), ["1", "ratelimit:t:{u}", "merge"]);
    }

    #[test]
    fn checks_share_a_script_and_come_back_in_order() {
        let ops = [consume("a"), consume("b"), consume("a"), consume("c")];
        let steps = steps(4);
        let batch = Batch::new(&ops, &steps, TOGETHER);
        assert_eq!(batch.len(), 2, "the second check of a key is sent after the others");
        let answers = batch.answers(&ops, &steps, vec![told(&[3, 4, 5]), told(&[1])]);
        assert_eq!(answers.iter().map(left).collect::<Vec<_>>(), [3, 4, 1, 5]);
        assert_eq!(Batch::new(&ops, &steps, Able::default()).len(), 4);
        for (said, expected) in
            [("NOSCRIPT gone", "NoScript"), ("CROSSSLOT of two", "Apart"), ("OOM", "Final")]
        {
            let error = redis::parse_redis_value(format!("-{said}\r\n").as_bytes()).expect("a reply");
            let answers = batch.answers(&ops, &steps, vec![error, told(&[1])]);
            for checked in [0, 1, 3] {
                assert!(format!("{:?}", answers[checked]).starts_with(expected), "{said}: {answers:?}");
            }
            assert_eq!(left(&answers[2]), 1);
        }
        for nonsense in [Value::Okay, told(&[1, 2]), told(&[1, 2, 3, 4]), Value::Array(vec![])] {
            let answers = batch.answers(&ops, &steps, vec![nonsense, told(&[1])]);
            assert!(matches!(answers[1], Answer::Final(Err(StoreError::Unavailable(_)))));
            assert_eq!(left(&answers[2]), 1);
        }
    }

    #[test]
    fn nonsense_is_never_an_answer() {
        let key = Keys::new("").entry(Namespace::UserBasic, "a");
        let ops = [Op::Get(key.clone()), Op::Add { key, value: Bytes::new(), ttl_ms: 1 }];
        let steps = steps(2);
        let batch = Batch::new(&ops, &steps, TOGETHER);
        let hostile = [
            vec![],
            vec![Value::Okay],
            vec![Value::Int(1), Value::Int(7)],
            vec![Value::Array(vec![]), Value::BulkString(b"OK".to_vec())],
        ];
        for values in hostile {
            for answer in batch.answers(&ops, &steps, values) {
                assert!(matches!(answer, Answer::Final(Err(StoreError::Unavailable(_)))), "{answer:?}");
            }
        }
    }
}
