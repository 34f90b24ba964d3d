//! Redirections that real servers produce only in accidents: a slot map that points in a circle, a node
//! that is asked for one command only. A small server speaks just enough of the protocol to have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bcos_cache_core::base::key::{Keys, Namespace};
use bcos_cache_core::limiter::{Aged, Limit};
use bcos_cache_core::store::valkey::{Mode, Options, Valkey};
use bcos_cache_core::store::{Op, Reply, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a GET.
const ANSWER: u8 = 0;
const MOVED_TO_ITSELF: u8 = 1;
const ASK_THE_OTHER: u8 = 2;
/// The slot moves to the other node: what has all of its keys there is answered, as a real node does.
const MOVES_AWAY: u8 = 3;

struct Node {
    address: String,
    other: std::sync::Mutex<String>,
    mode: AtomicU8,
    gets: AtomicUsize,
    /// Numbers of keys of the scripts that were asked for.
    scripts: std::sync::Mutex<Vec<u8>>,
    asking: AtomicUsize,
    connections: AtomicUsize,
}

async fn node() -> Arc<Node> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let node = Arc::new(Node {
        address: listener.local_addr().expect("bound").to_string(),
        other: std::sync::Mutex::default(),
        mode: AtomicU8::new(ANSWER),
        gets: AtomicUsize::new(0),
        scripts: std::sync::Mutex::default(),
        asking: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
    });
    let serving = node.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serving.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(serving.clone(), stream));
        }
    });
    node
}

async fn serve(node: Arc<Node>, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read) = stream.read(&mut chunk).await {
        if read == 0 {
            return;
        }
        buffer.extend_from_slice(&chunk[..read]);
        while let Some((command, used)) = parse(&buffer) {
            buffer.drain(..used);
            let reply = node.reply(&command);
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// One command of bulk strings, and how many bytes it took.
fn parse(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let line = |from: usize| -> Option<(usize, usize)> {
        let end = from + bytes.get(from..)?.windows(2).position(|two| two == b"\r\n")?;
        let number = std::str::from_utf8(bytes.get(from + 1..end)?).ok()?.parse().ok()?;
        Some((number, end + 2))
    };
    let (count, mut at) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, start) = line(at)?;
        words.push(String::from_utf8_lossy(bytes.get(start..start + length)?).into_owned());
        bytes.get(start + length + 1)?;
        at = start + length + 2;
    }
    Some((words, at))
}

impl Node {
    fn reply(&self, command: &[String]) -> String {
        let port = self.address.rsplit(':').next().unwrap_or_default();
        match command[0].to_ascii_uppercase().as_str() {
            "HELLO" => "*4\r\n$4\r\nmode\r\n$7\r\ncluster\r\n$4\r\nrole\r\n$6\r\nmaster\r\n".into(),
            "CLUSTER" => format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n"),
            "PING" => "+PONG\r\n".into(),
            "ASKING" => {
                self.asking.fetch_add(1, Ordering::SeqCst);
                "+OK\r\n".into()
            }
            "GET" => {
                self.gets.fetch_add(1, Ordering::SeqCst);
                match self.mode.load(Ordering::SeqCst) {
                    MOVED_TO_ITSELF => format!("-MOVED 1 {}\r\n", self.address),
                    ASK_THE_OTHER => format!("-ASK 1 {}\r\n", self.other.lock().expect("other")),
                    _ => "$2\r\nok\r\n".into(),
                }
            }
            "EVALSHA" => {
                let keys = command[2].parse().expect("a number of keys");
                self.scripts.lock().expect("scripts").push(keys);
                match self.mode.load(Ordering::SeqCst) {
                    MOVES_AWAY => format!("-ASK 1 {}\r\n", self.other.lock().expect("other")),
                    // None of them has come over yet.
                    _ if keys > 1 => "-TRYAGAIN Multiple keys request during rehashing of slot\r\n".into(),
                    _ => "*5\r\n:5\r\n:0\r\n:0\r\n:0\r\n:0\r\n".into(),
                }
            }
            _ => "+OK\r\n".into(),
        }
    }
}

fn store(node: &Node) -> Valkey {
    let (host, port) = node.address.rsplit_once(':').expect("host and port");
    let options = Options {
        seeds: vec![(host.to_owned(), port.parse().expect("a port"))],
        username: None,
        password: None,
        db: 0,
        tls: None,
        mode: Mode::Auto,
        deadline_ms: 200,
        connect_timeout_ms: 1_000,
    };
    Valkey::new(options, Arc::default())
}

fn get() -> Vec<Op> {
    vec![Op::Get(Keys::new("").entry(Namespace::UserBasic, "k"))]
}

#[tokio::test]
async fn a_circle_ends_and_the_next_probe_starts_from_the_seeds() {
    let node = node().await;
    let store = store(&node);
    store.probe().await.expect("it answers");
    assert_eq!(store.mode(), "cluster");
    node.mode.store(MOVED_TO_ITSELF, Ordering::SeqCst);
    let started = tokio::time::Instant::now();
    let reply = store.exec(get()).await.pop();
    assert!(matches!(reply, Some(Err(StoreError::Unavailable(_)))), "{reply:?}");
    assert!(started.elapsed() < Duration::from_millis(400));
    let asked = node.gets.load(Ordering::SeqCst);
    assert!((2..=5).contains(&asked), "followed a few times, not for ever: {asked}");

    node.mode.store(ANSWER, Ordering::SeqCst);
    let before = node.connections.load(Ordering::SeqCst);
    store.probe().await.expect("it answers");
    assert!(node.connections.load(Ordering::SeqCst) > before, "the old links were not trusted again");
    assert_eq!(store.exec(get()).await.pop(), Some(Ok(Reply::Bytes(Some("ok".into())))));
}

#[tokio::test]
async fn ask_is_followed_once_and_not_remembered() {
    let (asked, target) = (node().await, node().await);
    *asked.other.lock().expect("other") = target.address.clone();
    let store = store(&asked);
    store.probe().await.expect("it answers");
    asked.mode.store(ASK_THE_OTHER, Ordering::SeqCst);
    for round in 1..=2 {
        assert_eq!(store.exec(get()).await.pop(), Some(Ok(Reply::Bytes(Some("ok".into())))));
        assert_eq!(target.asking.load(Ordering::SeqCst), round, "ASKING goes before the command");
        assert_eq!(asked.gets.load(Ordering::SeqCst), round, "the slot still belongs to the first node");
    }
}

#[tokio::test]
async fn what_is_told_of_a_limit_arrives_without_its_note_while_its_slot_moves() {
    let (asked, target) = (node().await, node().await);
    *asked.other.lock().expect("other") = target.address.clone();
    let store = store(&asked);
    store.probe().await.expect("it answers");
    asked.mode.store(MOVES_AWAY, Ordering::SeqCst);
    let key = Keys::new("").limit("login", "somebody");
    let limit = Limit::new(5, 60_000).expect("a limit");
    let tell = Op::Tell { key, limit, mark: 7, aged: vec![Aged { age_ms: 10, count: 1 }] };
    let reply = store.exec(vec![tell]).await.pop();
    assert!(matches!(reply, Some(Ok(Reply::Limits(_)))), "{reply:?}");
    assert_eq!(*asked.scripts.lock().expect("scripts"), [2]);
    assert_eq!(*target.scripts.lock().expect("scripts"), [2, 1], "again, with the limit alone");
    assert_eq!(target.asking.load(Ordering::SeqCst), 2, "ASKING goes before each of them");
}
