//! The limiter's machine in the server against the one in Rust: the same random operations at the same times, the
//! same replies and in the end the same bytes, of one limit, of many that travel together, and of several that are charged
//! together; then the server's own clock. On real servers, Valkey 9 and Redis 7.
//! `BCOS_SCHEDULES` sets how many operations each of them gets.
#![cfg(unix)]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bcos_cache_core::base::key::Keys;
use bcos_cache_core::limiter::{
    Action, Aged, Check, Evaluation, Form, Limit, RING_MOST, Run, apply, apply_all, noted_ms as noted_ms_of,
    script::{
        ALL, EACH, arguments, arguments_of_all, arguments_of_each, evaluation, evaluations_of_all,
        evaluations_of_each, text,
    },
};
use redis::{Cmd, Connection, Pipeline, Value};
use smallvec::smallvec;

/// A server program: variable, name, folder in `.servers/`, how its version begins, how to get it.
struct Program(&'static str, &'static str, &'static str, &'static str, &'static str);

const VALKEY: Program = Program(
    "BCOS_VALKEY_SERVER",
    "valkey-server",
    "valkey-9",
    "Valkey server v=",
    "set BCOS_VALKEY_SERVER to a valkey-server of version 9.1 or later or run `node -e \"import('./__test__/servers/binaries.mjs').then(m => m.findValkey())\"`, which fetches one into .servers/",
);
const REDIS: Program = Program(
    "BCOS_REDIS_SERVER",
    "redis-server",
    "redis-7/usr/bin",
    "Redis server v=",
    "set BCOS_REDIS_SERVER to a redis-server of version 7 or later or run `node -e \"import('./__test__/servers/binaries.mjs').then(m => m.findRedis())\"`, which fetches one into .servers/",
);

/// Libraries that were unpacked beside a program.
fn libraries(folder: &Path) -> String {
    let bases = [folder.join("usr/lib"), folder.join("lib")];
    let inside = bases.iter().filter_map(|base| fs::read_dir(base).ok()).flatten().flatten();
    inside.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>().join(":")
}

impl Program {
    fn find(&self) -> Command {
        let Program(variable, name, folder, version, help) = self;
        let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.servers");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates: Vec<PathBuf> = named.iter().cloned().collect();
        if named.is_none() {
            candidates.push(servers.join(folder).join(name));
            candidates.extend(std::env::split_paths(&path).map(|folder| folder.join(name)));
        }
        let beside = libraries(&servers.join(folder.split('/').next().unwrap_or_default()));
        for candidate in candidates.iter().filter(|candidate| candidate.exists()) {
            let mut command = Command::new(candidate);
            command.env("LD_LIBRARY_PATH", &beside);
            let told = command.arg("--version").output().map(|output| output.stdout).unwrap_or_default();
            if String::from_utf8_lossy(&told).starts_with(version) {
                let mut command = Command::new(candidate);
                command.env("LD_LIBRARY_PATH", &beside);
                return command;
            }
        }
        panic!("{name} is not here: {help}");
    }
}

/// A server on a socket of its own. Ends with the test, by its process.
struct Server {
    process: Child,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Server {
    fn start(program: &Program, name: &str) -> Self {
        // A socket's path may have 100 characters.
        let folder = PathBuf::from(format!("/tmp/bcos-limiter-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let arguments = ["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"];
        let mut command = program.find();
        command.args(arguments).arg(folder.join("s")).arg("--dir").arg(&folder);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let server = Self { process, folder };
        for _ in 0..500 {
            if server.folder.join("s").exists() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn connect(&self) -> Connection {
        let url = format!("unix://{}", self.folder.join("s").display());
        let client = redis::Client::open(url).expect("an address");
        let mut left = 500;
        loop {
            match client.get_connection() {
                Ok(connection) => return connection,
                Err(error) if left == 0 => panic!("the server does not answer: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
            left -= 1;
        }
    }
}

/// Digests of the scripts.
struct Loaded {
    forms: [String; 2],
    each: String,
    all: String,
    /// Whether the next rows are written by `MSETEX`, by turns: also where the server does not have it and refuses.
    msetex: Cell<bool>,
}

/// One of the checks of a command: whose, what limit, how much.
type Asked<'a> = (&'a str, &'a Limit, &'a Run);

impl Loaded {
    fn new(connection: &mut Connection) -> Self {
        let mut load = |text: &str| -> String {
            redis::cmd("SCRIPT").arg("LOAD").arg(text).query(connection).expect("the script compiles")
        };
        let forms = [Form::Ring, Form::Coarse].map(|form| load(text(form)));
        Self { forms, each: load(EACH), all: load(ALL), msetex: Cell::new(false) }
    }

    /// As the product sends it: one check is one of many.
    fn command(&self, key: &str, limit: &Limit, action: &Action, time_ms: Option<u64>) -> Cmd {
        if let Some(run) = single(action) {
            return self.checks(&[(key, limit, run)], time_ms);
        }
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.forms[usize::from(limit.form() == Form::Coarse)]).arg(1).arg(key);
        arguments(limit, action, time_ms, |argument| {
            command.arg(argument);
        });
        command
    }

    fn checks(&self, asked: &[Asked], time_ms: Option<u64>) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.each).arg(asked.len());
        for (key, ..) in asked {
            command.arg(key);
        }
        let msetex = self.msetex.replace(!self.msetex.get());
        let rows = asked.iter().map(|(_, limit, run)| (*limit, *run));
        arguments_of_each(rows, msetex, time_ms, |argument| {
            command.arg(argument);
        });
        command
    }

    fn all(&self, checks: &[Check], time_ms: Option<u64>) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.all).arg(checks.len());
        for check in checks {
            command.arg(check.key.bytes());
        }
        arguments_of_all(checks, time_ms, |argument| {
            command.arg(argument);
        });
        command
    }
}

fn single(action: &Action) -> Option<&Run> {
    match action {
        Action::Consume(runs) => runs.first().filter(|_| runs.len() == 1),
        _ => None,
    }
}

fn understood(action: &Action, value: &Value) -> Evaluation {
    if let Some(run) = single(action) {
        let Value::BulkString(bytes) = value else { panic!("{value:?}") };
        let told = evaluations_of_each(std::iter::once(run), bytes).and_then(|mut all| all.pop());
        return told.unwrap_or_else(|| panic!("{bytes:?}"));
    }
    let integers = integers(value);
    evaluation(action, &integers).unwrap_or_else(|| panic!("{integers:?}"))
}

fn integers(value: &Value) -> Vec<i64> {
    let Value::Array(items) = value else { panic!("{value:?}") };
    let integer = |item: &Value| if let Value::Int(number) = item { *number } else { panic!("{item:?}") };
    items.iter().map(integer).collect()
}

fn stored(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::Nil => Vec::new(),
        other => panic!("{other:?}"),
    }
}

fn operations() -> u64 {
    std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn limit(most: u32, window_ms: u64) -> Limit {
    Limit::new(most, window_ms).expect("a limit")
}

/// One key in the test's own time. Windows are long, so that nothing expires by the server's.
struct Key {
    name: String,
    limit: Limit,
    value: Vec<u8>,
    now: u64,
    stamps: Vec<u64>,
}

const SHORTEST_MS: u64 = 600_000;

impl Key {
    fn new(n: u64, rng: &mut fastrand::Rng) -> Self {
        let now = rng.u64(1_700_000_000_000..1_900_000_000_000);
        let mut key =
            Self { name: format!("k{n}"), limit: limit(1, 1), value: Vec::new(), now, stamps: Vec::new() };
        key.change_limit(rng);
        key
    }

    fn change_limit(&mut self, rng: &mut fastrand::Rng) {
        let most = match rng.u8(0..10) {
            0..6 => rng.u32(0..20),
            6..8 => rng.u32(20..=RING_MOST),
            _ => rng.u32(RING_MOST + 1..3_000),
        };
        let window = if rng.u8(0..3) == 0 { rng.u64(SHORTEST_MS..4 * SHORTEST_MS) } else { SHORTEST_MS + 7 };
        self.limit = limit(most, window);
    }

    fn step(&mut self, rng: &mut fastrand::Rng) {
        let window = self.limit.window_ms();
        self.now = match rng.u8(0..40) {
            0..12 => self.now,
            12..18 => self.now + rng.u64(0..5),
            18..32 => self.now + rng.u64(0..=window / 4),
            32..35 => self.now + window - rng.u64(0..=1),
            35 => self.now + rng.u64(0..=3 * window),
            36..39 => self.now - rng.u64(0..=window / 3),
            _ => self.now - rng.u64(0..=3 * window),
        };
    }

    fn cost(&self, rng: &mut fastrand::Rng) -> u32 {
        let unit = (self.limit.most() / 6).max(1);
        if rng.bool() { 1 } else { rng.u32(1..=unit + 2) }
    }

    fn action(&self, rng: &mut fastrand::Rng) -> Action {
        match rng.u8(0..60) {
            0..46 => {
                let runs = (0..rng.usize(1..4)).map(|_| Run { cost: self.cost(rng), count: rng.u32(1..4) });
                Action::Consume(runs.collect())
            }
            46..50 => Action::Peek { cost: self.cost(rng) },
            50..53 => {
                let stamp_ms = if rng.bool() { rng.choice(&self.stamps).copied() } else { None };
                Action::Reward { cost: rng.u32(0..4), stamp_ms }
            }
            53..56 => {
                let most = self.limit.window_ms() * 5 / 4;
                let one = |rng: &mut fastrand::Rng| Aged { age_ms: rng.u64(0..=most), count: rng.u32(0..5) };
                Action::Merge((0..rng.usize(0..6)).map(|_| one(rng)).collect())
            }
            56..59 => {
                let for_ms = if rng.bool() { 0 } else { rng.u64(0..=2 * self.limit.window_ms()) };
                Action::Block { for_ms }
            }
            _ => Action::Reset,
        }
    }

    /// Something else gets under the key: bytes that are damaged, foreign, or of another type.
    fn disturb(&mut self, rng: &mut fastrand::Rng, pipeline: &mut Pipeline) {
        match rng.u8(0..4) {
            0 => {
                pipeline.cmd("DEL").arg(&self.name);
                pipeline.cmd("HSET").arg(&self.name).arg("a").arg("b");
                self.value.clear();
                return;
            }
            1 => {
                self.value = rng.choice([&b""[..], b"foreign", b"bl", b"blr2-"]).expect("not empty").to_vec()
            }
            2 if !self.value.is_empty() => {
                let at = rng.usize(..self.value.len());
                self.value[at] ^= 1 << rng.u8(0..8);
            }
            _ => {
                self.value = rng.choice([&b"blr1"[..], b"blc1"]).expect("not empty").to_vec();
                self.value.extend((0..12 + 6 * rng.usize(0..9)).map(|_| rng.u8(0..2)));
            }
        }
        pipeline.cmd("DEL").arg(&self.name).cmd("SET").arg(&self.name).arg(&self.value[..]);
    }
}

const BATCH: usize = 1_000;

fn the_same_in_both(program: &Program, name: &str) {
    let server = Server::start(program, name);
    let mut connection = server.connect();
    let loaded = Loaded::new(&mut connection);
    let (mut done, mut admitted, mut seed) = (0, 0, 0);
    while done < operations() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut keys: Vec<Key> = (0..8).map(|n| Key::new(seed * 8 + n, &mut rng)).collect();
        for _ in 0..4 {
            let mut pipeline = redis::pipe();
            let mut expected: Vec<Option<(Action, Evaluation, String)>> = Vec::new();
            for _ in 0..BATCH {
                let key = &mut keys[rng.usize(0..8)];
                if rng.u8(0..100) == 0 {
                    key.change_limit(&mut rng);
                }
                if rng.u8(0..200) == 0 {
                    key.disturb(&mut rng, &mut pipeline);
                    expected.extend([None, None]);
                }
                key.step(&mut rng);
                let action = key.action(&mut rng);
                pipeline.add_command(loaded.command(&key.name, &key.limit, &action, Some(key.now)));
                let before = format!("{:?} at {} on {:?}", key.limit, key.now, key.value);
                let evaluation = apply(&mut key.value, &key.limit, &action, key.now).evaluation;
                let some = evaluation.runs.iter().any(|run| run.admitted > 0);
                if some && key.stamps.len() < 50 {
                    key.stamps.push(evaluation.stamp_ms);
                }
                admitted += u64::from(some);
                expected.push(Some((action, evaluation, before)));
            }
            for key in &keys {
                pipeline.cmd("GET").arg(&key.name);
            }
            let mut replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
            let kept = replies.split_off(expected.len());
            for (reply, expected) in replies.iter().zip(&expected) {
                let Some((action, evaluation, before)) = expected else { continue };
                assert_eq!(&understood(action, reply), evaluation, "seed {seed}: {action:?}, {before}");
            }
            for (key, kept) in keys.iter().zip(kept) {
                assert_eq!(stored(kept), key.value, "seed {seed}: bytes of {}", key.name);
            }
            done += BATCH as u64;
        }
        redis::cmd("FLUSHALL").exec(&mut connection).expect("a clean start");
        seed += 1;
    }
    assert!(admitted * 5 > done, "{admitted} of {done} do something");
}

#[test]
fn valkey_and_rust_are_the_same_machine() {
    the_same_in_both(&VALKEY, "v");
}

#[test]
fn redis_and_rust_are_the_same_machine() {
    the_same_in_both(&REDIS, "r");
}

/// Checks of up to so many limits in one command.
const TOGETHER: usize = 40;

/// Checks that travel together: each is told what it would be told alone, and leaves what it would leave alone.
/// Answers what the server counted of its commands.
fn each_is_its_own(program: &Program, name: &str) -> String {
    let server = Server::start(program, name);
    let mut connection = server.connect();
    let loaded = Loaded::new(&mut connection);
    let (mut done, mut admitted, mut together, mut seed) = (0, 0, 0, 0);
    while done < operations() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut keys: Vec<Key> = (0..60).map(|n| Key::new(n, &mut rng)).collect();
        // Half of them have one limit, as in an application: equal checks one after the other are told once.
        let common = keys[0].limit;
        keys[..30].iter_mut().for_each(|key| key.limit = common);
        let mut clock = keys[0].now;
        for _ in 0..100 {
            let mut pipeline = redis::pipe();
            rng.shuffle(&mut keys);
            // What else happens to a limit, and what else gets under its key.
            for key in &mut keys[..8] {
                key.now = clock;
                match rng.u8(0..40) {
                    0..4 => key.change_limit(&mut rng),
                    4 => key.disturb(&mut rng, &mut pipeline),
                    5..20 => {
                        let action = key.action(&mut rng);
                        pipeline.add_command(loaded.command(&key.name, &key.limit, &action, Some(clock)));
                        apply(&mut key.value, &key.limit, &action, clock);
                    }
                    _ => {}
                }
            }
            keys[0].step(&mut rng);
            clock = keys[0].now;
            rng.shuffle(&mut keys);
            let many = rng.usize(1..=TOGETHER);
            let runs: Vec<Run> = keys[..many]
                .iter()
                .map(|key| match rng.u8(0..4) {
                    0 => Run { cost: key.cost(&mut rng), count: rng.u32(1..4) },
                    _ => Run { cost: 1, count: 1 },
                })
                .collect();
            let asked: Vec<Asked> =
                keys.iter().zip(&runs).map(|(key, run)| (&key.name[..], &key.limit, run)).collect();
            pipeline.add_command(loaded.checks(&asked, Some(clock)));
            for key in &keys[..many] {
                pipeline.cmd("GET").arg(&key.name);
            }
            let mut replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
            let kept = replies.split_off(replies.len() - many);
            let Some(Value::BulkString(told)) = replies.pop() else { panic!("seed {seed}: no answers") };
            let told = evaluations_of_each(runs.iter(), &told).expect("an evaluation for each");
            for (at, (key, kept)) in keys[..many].iter_mut().zip(kept).enumerate() {
                let before = format!("{:?} at {clock} on {:?}", key.limit, key.value);
                let action = Action::Consume(smallvec![runs[at]]);
                let expected = apply(&mut key.value, &key.limit, &action, clock).evaluation;
                assert_eq!(told[at], expected, "seed {seed}, {at} of {many}: {action:?}, {before}");
                assert_eq!(stored(kept), key.value, "seed {seed}: bytes after {action:?}, {before}");
                admitted += u64::from(expected.runs[0].admitted > 0);
            }
            (done, together) = (done + many as u64, together + u64::from(many > 1));
        }
        redis::cmd("FLUSHALL").exec(&mut connection).expect("a clean start");
        seed += 1;
    }
    assert!(together > 0 && admitted * 5 > done, "{admitted} of {done} do something");
    redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("what it did")
}

#[test]
fn checks_that_travel_together_on_valkey_are_each_their_own() {
    let did = each_is_its_own(&VALKEY, "ev");
    assert!(did.contains("cmdstat_msetex"), "Valkey 9.1 writes rows in one command: {did}");
}

#[test]
fn checks_that_travel_together_on_redis_are_each_their_own() {
    each_is_its_own(&REDIS, "er");
}

/// Several limits in one command: all of them charged or none, as the machine in Rust does it.
fn all_or_nothing(program: &Program, name: &str) {
    let server = Server::start(program, name);
    let mut connection = server.connect();
    let loaded = Loaded::new(&mut connection);
    let (names, mut admitted, mut denied, mut seed) = (Keys::new(""), 0, 0, 0);
    while admitted + denied < operations() / 10 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut keys: Vec<Key> = (0..6).map(|n| Key::new(n, &mut rng)).collect();
        let (names, mut clock) = (|n: &str| names.limit(n, "u"), keys[0].now);
        for _ in 0..200 {
            let at = rng.usize(0..6);
            keys[at].now = clock;
            if rng.u8(0..20) == 0 {
                keys[at].change_limit(&mut rng);
            }
            keys[at].step(&mut rng);
            clock = keys[at].now;
            rng.shuffle(&mut keys);
            let many = rng.usize(1..=keys.len());
            let checks: Vec<Check> = keys[..many]
                .iter()
                .map(|key| Check { key: names(&key.name), limit: key.limit, cost: key.cost(&mut rng) })
                .collect();
            let mut values: Vec<Vec<u8>> = keys[..many].iter().map(|key| key.value.clone()).collect();
            let expected = apply_all(&mut values, &checks, clock);
            let mut pipeline = redis::pipe();
            pipeline.add_command(loaded.all(&checks, Some(clock)));
            for check in &checks {
                pipeline.cmd("GET").arg(check.key.bytes());
            }
            let mut replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
            let kept = replies.split_off(1);
            let told = evaluations_of_all(many, &integers(&replies[0])).expect("an evaluation for each");
            for (told, expected) in told.iter().zip(&expected) {
                assert_eq!(told, &expected.evaluation, "seed {seed}: {checks:?}");
            }
            for ((key, value), kept) in keys.iter_mut().zip(values).zip(kept) {
                assert_eq!(stored(kept), value, "seed {seed}: bytes after {checks:?}");
                key.value = value;
            }
            let all = told.iter().all(|one| one.runs[0].admitted == 1);
            (admitted, denied) = (admitted + u64::from(all), denied + u64::from(!all));
        }
        redis::cmd("FLUSHALL").exec(&mut connection).expect("a clean start");
        seed += 1;
    }
    assert!(admitted > 0 && denied > 0, "{admitted} admitted, {denied} denied");
}

#[test]
fn several_limits_of_one_check_are_all_charged_or_none() {
    all_or_nothing(&VALKEY, "av");
    all_or_nothing(&REDIS, "ar");
}

fn one(cost: u32) -> Action {
    Action::Consume(smallvec![Run { cost, count: 1 }])
}

fn time(value: &Value) -> u64 {
    let (seconds, micros): (u64, u64) = redis::from_redis_value(value.clone()).expect("TIME");
    seconds * 1_000 + micros / 1_000
}

/// The clock of the server without TIME, and a TTL on everything.
fn the_server_tells_the_time(server: &Server) {
    let mut connection = server.connect();
    let loaded = Loaded::new(&mut connection);
    for most in [3, 5_000] {
        let limit = limit(most, 80);
        let key = format!("time-{most}");
        for turn in 0..200_u64 {
            let action = match turn % 6 {
                0..3 => one(1),
                3 => Action::Block { for_ms: turn % 7 },
                4 => Action::Merge(vec![Aged { age_ms: 5, count: 1 }]),
                _ => Action::Reward { cost: 1, stamp_ms: None },
            };
            let mut pipeline = redis::pipe();
            pipeline.cmd("TIME").add_command(loaded.command(&key, &limit, &action, None));
            pipeline.cmd("TIME").cmd("PTTL").arg(&key);
            let replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
            let told = understood(&action, &replies[1]);
            assert!((time(&replies[0])..=time(&replies[2])).contains(&told.now_ms), "{replies:?}");
            let Value::Int(ttl) = replies[3] else { panic!("{replies:?}") };
            assert!((0..=80 + 4).contains(&ttl) || ttl == -2, "a TTL of {ttl} ms after {action:?}");
            assert!(ttl != -2 || told.quota.remaining == most, "only what is over may be gone");
            if turn % 20 == 0 {
                thread::sleep(Duration::from_millis(turn / 2));
            }
        }
        for nothing in [Action::Peek { cost: 1 }, one(most + 1), Action::Reward { cost: 1, stamp_ms: None }] {
            let mut pipeline = redis::pipe();
            pipeline
                .add_command(loaded.command("absent", &limit, &nothing, None))
                .cmd("EXISTS")
                .arg("absent");
            let replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
            assert_eq!(understood(&nothing, &replies[0]).quota.remaining, most);
            assert_eq!(replies[1], Value::Int(0), "nothing is stored for {nothing:?}");
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(&key).arg("no end").add_command(loaded.command(&key, &limit, &one(1), None));
        pipeline.cmd("PTTL").arg(&key);
        let replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
        assert!(matches!(replies[2], Value::Int(1..=84)), "what had no end gets one: {replies:?}");
    }
}

/// A server that forgot the script says so and takes the text.
fn a_forgotten_script_is_sent_as_text(server: &Server) {
    let mut connection = server.connect();
    let loaded = Loaded::new(&mut connection);
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).expect("flushed");
    for limit in [limit(5, 60_000), limit(5_000, 60_000)] {
        let known = loaded.command("text", &limit, &one(1), None);
        let error = known.exec(&mut connection).expect_err("it was forgotten");
        assert_eq!(error.code(), Some("NOSCRIPT"), "{error}");
        let mut whole = redis::cmd("EVAL");
        whole.arg(EACH).arg(1).arg("text");
        arguments_of_each([(&limit, &Run { cost: 1, count: 1 })], true, None, |argument| {
            whole.arg(argument);
        });
        let reply = whole.query(&mut connection).expect("it runs");
        assert_eq!(understood(&one(1), &reply).runs[0].admitted, 1);
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).expect("flushed");
    }
    Loaded::new(&mut connection);
}

/// Several connections hammer one key in real time: never more than the limit in any window of the server's time.
fn never_more_than_the_limit(server: &Server) {
    for most in [7, 1_200] {
        let limit = limit(most, 150);
        let unit = if most == 7 { 1 } else { 60 };
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let mut connection = server.connect();
                let loaded = Loaded::new(&mut connection);
                thread::spawn(move || {
                    let mut admitted = Vec::new();
                    for _ in 0..150 {
                        let mut pipeline = redis::pipe();
                        for _ in 0..20 {
                            pipeline.add_command(loaded.command("hot", &limit, &one(unit), None));
                        }
                        let replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
                        let told = replies.iter().map(|reply| understood(&one(unit), reply));
                        let new = told.filter(|told| told.runs[0].admitted > 0);
                        admitted.extend(new.map(|told| (told.now_ms, u64::from(unit))));
                        thread::sleep(Duration::from_millis(5));
                    }
                    admitted
                })
            })
            .collect();
        let mut admitted: Vec<(u64, u64)> =
            workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect();
        admitted.sort_unstable();
        let sum_from = |start: u64| -> u64 {
            let inside = admitted.iter().filter(|(at, _)| (start..start + 150).contains(at));
            inside.map(|(_, cost)| cost).sum()
        };
        let worst = admitted.iter().map(|(at, _)| sum_from(*at)).max().expect("some are admitted");
        assert!(worst <= u64::from(most), "{worst} of {most}");
        assert!(worst + u64::from(unit) > u64::from(most), "it is reached: {worst} of {most}");
        redis::cmd("DEL").arg("hot").exec(&mut server.connect()).expect("deleted");
    }
}

/// Without a time given: of many at once each has the server's, an end, and nothing is left of what was denied.
fn many_at_the_servers_time(server: &Server) {
    let mut connection = server.connect();
    let loaded = Loaded::new(&mut connection);
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..operations().clamp(1, 20_000) / 40 {
        let names: Vec<String> = (0..20).map(|n| format!("many-{round}-{n}")).collect();
        let limits: Vec<Limit> = (0..20).map(|n| limit(if n % 3 == 0 { 2_000 } else { 3 }, 60_000)).collect();
        // Limits that cannot admit it, the first one among them now and then: it may have been written to read the time.
        let runs: Vec<Run> =
            (0..20).map(|_| Run { cost: if rng.u8(0..4) == 0 { 3_000 } else { 1 }, count: 1 }).collect();
        let asked: Vec<Asked> = names
            .iter()
            .zip(&limits)
            .zip(&runs)
            .map(|((name, limit), run)| (&name[..], limit, run))
            .collect();
        let mut pipeline = redis::pipe();
        let mut used = [0; 20];
        for at in 0..20 {
            match rng.u8(0..8) {
                0 => {
                    pipeline.cmd("HSET").arg(&names[at]).arg("of another").arg("type");
                }
                1 => {
                    used[at] = 1;
                    pipeline.add_command(loaded.command(&names[at], &limits[at], &one(1), None));
                    pipeline.cmd("PERSIST").arg(&names[at]);
                }
                2..4 => {
                    used[at] = 2;
                    pipeline.add_command(loaded.command(&names[at], &limits[at], &one(2), None));
                }
                _ => {}
            }
        }
        pipeline.cmd("TIME").add_command(loaded.checks(&asked, None)).cmd("TIME");
        for name in &names {
            pipeline.cmd("PTTL").arg(name);
        }
        let mut replies: Vec<Value> = pipeline.query(&mut connection).expect("no command fails");
        let ttls: Vec<i64> = redis::from_redis_value(Value::Array(replies.split_off(replies.len() - 20)))
            .expect("times to live");
        let [until, Value::BulkString(told), from] = [(); 3].map(|()| replies.pop().expect("three replies"))
        else {
            panic!("no answers")
        };
        let told = evaluations_of_each(runs.iter(), &told).expect("an answer for each");
        for (at, one) in told.iter().enumerate() {
            let admits = runs[at].cost == 1;
            assert_eq!(one.quota.remaining, limits[at].most() - used[at], "as found");
            assert_eq!(one.runs[0].admitted, u32::from(admits));
            assert!((time(&from)..=time(&until)).contains(&one.now_ms), "{one:?}");
            match ttls[at] {
                -2 => assert!(!admits && used[at] == 0, "only what was denied and not there is gone"),
                left => assert!((59_000..=63_000).contains(&left) && (admits || used[at] > 0), "{left}"),
            }
        }
    }
}

/// News are charged once for each mark, in both forms, and the mark does not outlive them.
fn what_is_told_again_counts_once(server: &Server) {
    let mut connection = server.connect();
    let loaded = Loaded::new(&mut connection);
    let keys = Keys::new("");
    for limit in [limit(50, 60_000), limit(5_000, 60_000), limit(50, 10_000_000)] {
        let key = keys.limit("told", &format!("{} {}", limit.most(), limit.window_ms()));
        let mut tell = |mark: u64, count: u32| {
            let mut command = redis::cmd("EVALSHA");
            command.arg(&loaded.forms[usize::from(limit.form() == Form::Coarse)]).arg(2);
            command.arg(key.bytes()).arg(key.told(mark).bytes());
            let action = Action::Merge(vec![Aged { age_ms: 1_000, count }]);
            arguments(&limit, &action, None, |argument| {
                command.arg(argument);
            });
            let reply: Value = command.query(&mut connection).expect("it runs");
            assert!(evaluation(&action, &integers(&reply)).is_some());
            let look = loaded.command(
                std::str::from_utf8(key.bytes()).expect("text"),
                &limit,
                &Action::Peek { cost: 1 },
                None,
            );
            let look: Value = look.query(&mut connection).expect("it runs");
            let left = understood(&Action::Peek { cost: 1 }, &look).quota.remaining;
            let noted_ms: u64 =
                redis::cmd("PTTL").arg(key.told(mark).bytes()).query(&mut connection).expect("noted");
            assert!(noted_ms <= noted_ms_of(&limit) && noted_ms + 5_000 > noted_ms_of(&limit), "{noted_ms}");
            limit.most() - left
        };
        assert_eq!([tell(1, 3), tell(1, 3), tell(2, 4), tell(1, 3), tell(2, 4)], [3, 3, 7, 7, 7]);
    }
}

#[test]
fn the_servers_own_clock_keeps_the_limit() {
    for (program, name) in [(&VALKEY, "tv"), (&REDIS, "tr")] {
        let server = Server::start(program, name);
        the_server_tells_the_time(&server);
        a_forgotten_script_is_sent_as_text(&server);
        never_more_than_the_limit(&server);
        many_at_the_servers_time(&server);
        what_is_told_again_counts_once(&server);
    }
}
