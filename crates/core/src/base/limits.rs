//! Every bound of the engine that is not a setting, with the reason for its size.

/// Requests that may wait for the batching worker. At 4 us each this is a quarter of a second of
/// backlog; beyond it a caller is better served by an error than by a longer queue.
pub const SUBMIT_QUEUE: usize = 65_536;

/// Requests that travel in one pipeline: large enough to amortise a write, small enough that the
/// first reply of a burst is not held back by the last.
pub const BATCH_REQUESTS: usize = 512;

/// Payloads up to this size are read whole to validate a near copy: many whole reads share one command,
/// which costs the server a third of as many reads of a header, and a packet carries them all the same.
pub const WHOLE_BYTES: usize = 1_024;

/// A batch of so many requests travels in two halves, one after the other: while the server is at work for one, this process
/// is for the other. With fewer, what a system call costs is more than what is won.
pub const BATCH_HALVED: usize = 64;

/// Keys of one MGET: restricted servers refuse 4,000 arguments.
pub const MGET_KEYS: usize = 1_000;

/// Hops a redirected command may take before the topology is called circular and rebuilt.
pub const REDIRECTS: usize = 3;

/// Longest key part in bytes before escaping: the widest column a key is made of is varchar(255).
pub const KEY_PART_BYTES: usize = 1_024;

/// Longest token text that is looked at: larger than any header a proxy lets through.
pub const JWT_BYTES: usize = 16 * 1024;

/// Largest payload that is stored for one entry of an authorization namespace.
pub const ENTRY_BYTES: usize = 1024 * 1024;

/// Invalidations that wait for the store. Beyond it a further one is refused with an error, since
/// accepting it and forgetting it would be a silent hole.
pub const PENDING_INVALIDATIONS: usize = 100_000;

/// How long an acknowledged invalidation is remembered, in case the server that acknowledged it is replaced by
/// one that never heard of it. Replication lag is well below a second; ten leave room for a slow failover.
pub const ACKNOWLEDGED_MS: u64 = 10_000;
/// How many of them. Beyond it the oldest are forgotten: contexts are voided as a whole in any case.
pub const ACKNOWLEDGED: usize = 10_000;

/// Parts of contexts that one statement loads.
pub const GATHERED_PARTS: usize = 256;

/// Keys of one replayed pipeline of pending invalidations.
pub const REPLAY_CHUNK: usize = 500;

/// Poll interval while another process loads: first and longest, in milliseconds.
pub const WAIT_POLL_FIRST_MS: u64 = 2;
/// See [`WAIT_POLL_FIRST_MS`].
pub const WAIT_POLL_CAP_MS: u64 = 20;

/// Reconnect and probe backoff, in milliseconds. The cap keeps recovery under two seconds.
pub const PROBE_BASE_MS: u64 = 20;
/// See [`PROBE_BASE_MS`].
pub const PROBE_CAP_MS: u64 = 500;

/// A subscription without a message (own heartbeat included) for this long is not healthy.
pub const SUBSCRIPTION_SILENCE_MS: u64 = 1_500;
/// Heartbeat interval on the invalidation channel.
pub const SUBSCRIPTION_HEARTBEAT_MS: u64 = 400;
/// Pause before a subscription that the user has no right to is tried again: a right is granted by a person.
pub const SUBSCRIPTION_REFUSED_MS: u64 = 2_000;

/// Batches in flight towards the store at once. Few, so that requests gather while they travel: with 64,
/// 100 concurrent callers ended up in batches of 6 and half the time went into system calls.
pub const BATCHES_IN_FLIGHT: usize = 2;

/// How long a query may take that others wait for, in milliseconds: twice as long as the slowest dashboards that this was
/// made for. Its lease is renewed until then, so that one that is slow is neither run again meanwhile nor lost.
pub const RESULT_LOAD_MS: u64 = 60_000;
/// Results that one process refreshes in the background at once: all charts of one dashboard, and not the load that
/// the cache is there to keep from the source.
pub const REFRESHES: usize = 16;
/// Results that a process leaves alone for a while, because they are being refreshed or somebody just tried.
pub const REFRESH_MARKS: usize = 4_096;
/// Pause of a process after it found that another one refreshes a result, in milliseconds.
pub const REFRESH_AGAIN_MS: u64 = 1_000;
/// Pause of all processes after a refresh that failed, in milliseconds: a source in trouble is not asked for every hit.
pub const REFRESH_PAUSE_MS: u64 = 5_000;

/// Rate limits whose last denial is remembered: some 100 bytes each, for as many attackers as a botnet has.
pub const LIMIT_DENIALS: usize = 65_536;
/// Rate limits that an instance remembers for the time without a store. Beyond it those go that were not asked for
/// lately; they start anew when the store goes away.
pub const LIMIT_KEYS: usize = 131_072;
/// What they may take together, which is 35 admissions of each: 6 bytes an admission, some 300 a key. A full limit of 1,000
/// is 6 KB, so without this bound an attack from many addresses would take 800 MB.
pub const LIMIT_BYTES: usize = 64 << 20;
/// Moments of admissions that one pipeline tells the store about: at some ten microseconds each well within a deadline.
pub const LIMIT_MOMENTS: usize = 1_000;
/// Other instances that are counted: more than any deployment of one application.
pub const LIMIT_PEERS: usize = 1_000;
/// Groups of a dashboard: the object of all of them is one call of a function that takes 100 arguments.
pub const DASHBOARD_GROUPS: usize = 50;
/// Longest query of a group, in bytes.
pub const DASHBOARD_QUERY_BYTES: usize = 64 * 1024;
/// Longest key of a value that layers answer: `:`, the digest of a scope, and room to spare come after it.
pub const LAYERED_KEY_BYTES: usize = KEY_PART_BYTES - 128;

/// Limits that one check may have.
pub const LIMITS_TOGETHER: usize = 16;

/// Keys under a tag that one command names, and that are then voided together: each needs two arguments of a command
/// that may have 3,999.
pub const TAGGED_KEYS: usize = 1_000;
/// Pages of a tag that one invalidation goes through: a million keys, far beyond what a tag is for.
pub const TAG_PAGES: usize = 1_000;
/// Tags of one value.
pub const TAGS: usize = 64;
/// Keys that are looked at and voided together when a pattern or everything is removed.
pub const VOIDED_TOGETHER: usize = 500;

/// Pairs of operation and reason that an application may report as fallbacks; further ones count as `other`. As many as a
/// dashboard can show.
pub const FALLBACK_LABELS: usize = 64;
/// Longest word of such a pair.
pub const FALLBACK_WORD_BYTES: usize = 64;
/// Minutes over which fallbacks are compared with all reads.
pub const FALLBACK_WINDOW_MINUTES: usize = 10;
/// Share of the reads, in percent, above which health says so.
pub const FALLBACK_PERCENT: u64 = 10;
/// Reads in the window below which their share says nothing.
pub const FALLBACK_LEAST_READS: u64 = 100;

/// System roles that one warm-up loads: more than anybody has named.
pub const WARM_ROLES: usize = 1_000;
/// Users that one warm-up may be asked for. Their contexts live five minutes; more could not be loaded in that time.
pub const WARM_USERS: u32 = 10_000;
/// Users that are warmed when nobody says how many (S1).
pub const WARM_USERS_USUAL: u32 = 100;
/// Loads of one warm-up at a time, at most; half the bulkhead when that is less.
pub const WARM_LOADS: u32 = 8;
/// How long a warm-up that nobody waits for lets the store take to come into service.
pub const WARM_WAIT_MS: u64 = 10_000;
/// Longest warm-up, queries of the application included.
pub const WARM_LONGEST_MS: u64 = 600_000;
/// Life of the right to warm, renewed while it is used: how long a killed process keeps others from it.
pub const WARM_LEASE_MS: u64 = 10_000;
/// How long after a warm-up another one is not needed: instances of one deployment start within such a time.
pub const WARM_REST_MS: u64 = 30_000;
/// Ended warm-ups whose outcome is kept for whoever asks late.
pub const WARM_ENDED: usize = 16;

/// Checks of one script call: nobody else is served meanwhile, and three microseconds each are what some plain commands
/// take. Most of what is saved is saved by a dozen.
pub const LIMITS_EACH: usize = 64;

/// Columns of an analytics table: more than any of the application's has.
pub const ANALYTICS_COLUMNS: usize = 256;
/// Bytes of a column's name: Postgres allows 63 by default.
pub const ANALYTICS_NAME_BYTES: usize = 255;
/// The longest text or JSON of one row. A table with longer ones is not made for charts.
pub const ANALYTICS_VALUE_BYTES: usize = 256 * 1024;
/// Rows that are handed over at once, and the most of any frame: enough to make packing worth it, a few MB unpacked.
pub const ANALYTICS_BATCH_ROWS: usize = 65_536;
/// Bytes after which a batch with long texts or many columns is handed over early.
pub const ANALYTICS_BATCH_BYTES: usize = 16 << 20;
/// Unpacked bytes after which a frame is made of fewer rows: it is read whole.
pub const ANALYTICS_FRAME_TARGET_BYTES: usize = 2 << 20;
/// The most a stored frame may claim to unpack to: the widest row, several times over.
pub const ANALYTICS_FRAME_BYTES: usize = 256 << 20;
/// The most a stored manifest may claim to unpack to: about 20 million combinations.
pub const ANALYTICS_MANIFEST_BYTES: usize = 128 << 20;
/// Pairs of a measure and a frequency. Beyond it a column is called a measure that is none.
pub const ANALYTICS_GROUPS: usize = 65_536;
/// Values of one `in` list: a caller who may see every practice and names them all.
pub const ANALYTICS_OPERANDS: usize = 100_000;
/// Bytes of a `like` pattern.
pub const ANALYTICS_PATTERN_BYTES: usize = 4_096;
/// Groups of one aggregate: more are rows, not an aggregate.
pub const ANALYTICS_ANSWER_GROUPS: usize = 1_000_000;
/// Distinct values that one aggregate counts in memory, some 20 bytes each; the source counts more on disk.
pub const ANALYTICS_DISTINCT: usize = 2_000_000;
/// The most that a live pointer is: three generations and why one of them waits.
pub const ANALYTICS_LIVE_BYTES: usize = 64 * 1024;
/// How long a round trip with some hundred KB may take, in milliseconds, where a single entry has the store's own deadline.
pub const LARGE_MS: u64 = 1_000;
/// Frames that are asked for in one round trip: some hundred KB.
pub const ANALYTICS_READ_FRAMES: usize = 64;
/// Packed bytes of one answer of the source. An answer that does not fit is an error, never a shorter one.
pub const ANALYTICS_ANSWER_BYTES: usize = 1 << 30;
/// Rows of one answer of the source: places in it are counted in 32 bits.
pub const ANALYTICS_ANSWER_ROWS: usize = u32::MAX as usize - ANALYTICS_BATCH_ROWS;
/// Data sources whose description is remembered: more than an application has dashboards.
pub const ANALYTICS_SOURCES: usize = 1_024;
/// How long a description is believed, in milliseconds. Casts in every statement keep one that is older from being wrong.
pub const ANALYTICS_DESCRIBED_MS: u64 = 60_000;
/// Exports of one process at a time. One takes a connection, a thread and some tens of MB; a second one would only make both
/// slower.
pub const ANALYTICS_EXPORTS: usize = 1;
/// Batches that are read ahead of whoever takes them.
pub const ANALYTICS_BATCHES_AHEAD: usize = 2;
/// How long the transaction of an export may have nothing to do before the server ends it, in milliseconds: a frozen process
/// must not keep a snapshot, which keeps the whole database from being cleaned up.
pub const ANALYTICS_IDLE_MS: u64 = 60_000;
/// Bytes of one field of an export that are waited for: more than the longest value that is kept, so that a longer one is
/// refused with the name of its column, and not the memory of a frame.
pub const ANALYTICS_FIELD_BYTES: usize = 4 * ANALYTICS_VALUE_BYTES;
/// Bytes of one question as JSON: lists of a hundred thousand UUIDs and room to spare.
pub const ANALYTICS_QUESTION_BYTES: usize = 8 << 20;
/// Conditions of one question; each looks at a column.
pub const ANALYTICS_CONDITIONS: usize = 64;
/// Columns that one aggregate groups by, and metrics that it computes.
pub const ANALYTICS_METRICS: usize = 64;
/// Warms of data sources that run at once in one process; others wait. Each takes some tens of MB.
pub const ANALYTICS_WARMS: usize = 2;
/// Data sources that may wait for it: more than an application has.
pub const ANALYTICS_WARMS_WAITING: usize = 256;
/// Ended warms whose outcome is kept for whoever asks late.
pub const ANALYTICS_WARMS_ENDED: usize = 64;
/// How long after a warm another one of the data source is not needed, in milliseconds.
pub const ANALYTICS_REST_MS: u64 = 60_000;
/// Life of the right to warm a data source, renewed while it is used: how long a killed process keeps others from it.
pub const ANALYTICS_LOCK_MS: u64 = 15_000;
/// How long frames outlive their pointer, in milliseconds: a pointer may be kept a while longer while its successor is made.
pub const ANALYTICS_OUTLIVE_MS: u64 = 3_600_000;
/// How long a generation that is not even the previous one any more is left to those who still read it, in milliseconds:
/// three times as long as one question may take.
pub const ANALYTICS_GRACE_MS: u64 = 30_000;
/// Bytes of packed rows, and of frames made of them, that one warm holds at most: several hundred million rows of the usual
/// kind.
pub const ANALYTICS_WARM_BYTES: usize = 1 << 30;
/// Bytes of frames that travel to the store together: half a deadline on a slow link, and no more than others wait behind.
pub const ANALYTICS_WRITE_BYTES: usize = 256 * 1024;
/// How many of these are on their way at once.
pub const ANALYTICS_WRITES_AHEAD: usize = 4;
/// How long an invalidation waits for whoever works on the data source, in milliseconds, before it leaves the rest to them.
pub const ANALYTICS_LOCK_WAIT_MS: u64 = 1_000;
