//! A walk over the keys of every node, by SCAN. Never KEYS, which stops the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use crate::store::{Size, StoreError, Walk};

use super::Valkey;
use super::link::Link;
use super::wire;

/// Keys that the server looks at for one page: some tens of microseconds of its time.
const PAGE: u64 = 1_000;

impl Valkey {
    /// See [`crate::store::Store::walk`].
    pub(in crate::store) async fn walk(&self, walk: &mut Walk) -> Result<Option<Vec<Bytes>>, StoreError> {
        let owners = self.owners();
        let nodes =
            walk.nodes.get_or_insert_with(|| owners.iter().map(|link| link.address().to_owned()).collect());
        let Some(address) = nodes.last() else { return Ok(None) };
        // A node that is gone took its slots to another one, which this walk may have passed already.
        let gone = || StoreError::Unavailable("the nodes changed while their keys were walked over".into());
        let link = owners.iter().find(|link| link.address() == address).ok_or_else(gone)?;
        let mut command = redis::cmd("SCAN");
        let mut pattern = walk.beginning.clone();
        pattern.push(b'*');
        command.arg(walk.cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
        let (cursor, keys) = page(link.command(&command, self.limit()).await?)
            .ok_or_else(|| StoreError::Unavailable("the server answered with an unexpected type".into()))?;
        walk.cursor = cursor;
        if cursor == 0 {
            nodes.pop();
        }
        Ok(Some(keys))
    }

    /// See [`crate::store::Store::size`].
    pub(in crate::store) async fn size(&self) -> Result<Size, StoreError> {
        let mut size = Size { keys: Some(0), bytes: Some(0), limit: Some(0) };
        for link in self.owners() {
            let keys = refusable(link.command(&redis::cmd("DBSIZE"), self.limit()).await)?;
            let info = refusable(link.command(redis::cmd("INFO").arg("memory"), self.limit()).await)?;
            let keys =
                keys.and_then(|value| if let Value::Int(keys) = value { keys.try_into().ok() } else { None });
            size.keys = size.keys.zip(keys).map(|(sum, here): (u64, u64)| sum + here);
            let info = info.as_ref().and_then(wire::text);
            let bytes = info.and_then(|info| figure(info, "used_memory:"));
            size.bytes = size.bytes.zip(bytes).map(|(sum, here)| sum + here);
            // Without a limit of its own a server is as large as its machine, which nobody knows here.
            let limit = info.and_then(|info| figure(info, "maxmemory:")).filter(|limit| *limit > 0);
            size.limit = size.limit.zip(limit).map(|(sum, here)| sum + here);
        }
        Ok(size)
    }

    fn owners(&self) -> Vec<Arc<Link>> {
        self.topology.read().owners()
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.options.deadline_ms)
    }
}

/// What a server may refuse to say: then it is not known.
fn refusable(reply: Result<Value, StoreError>) -> Result<Option<Value>, StoreError> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn page(reply: Value) -> Option<(u64, Vec<Bytes>)> {
    let Value::Array(mut parts) = reply else { return None };
    let (Some(Value::Array(keys)), Some(cursor), None) = (parts.pop(), parts.pop(), parts.pop()) else {
        return None;
    };
    let keys =
        keys.into_iter().map(|key| if let Value::BulkString(key) = key { Some(key.into()) } else { None });
    Some((wire::text(&cursor)?.parse().ok()?, keys.collect::<Option<_>>()?))
}

fn figure(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)).and_then(|bytes| bytes.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_is_a_page() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let keys = Value::Array(vec![bulk("a"), bulk("b")]);
        assert_eq!(
            page(Value::Array(vec![bulk("17"), keys.clone()])),
            Some((17, vec!["a".into(), "b".into()]))
        );
        for nonsense in [Value::Nil, Value::Array(vec![keys.clone()]), Value::Array(vec![bulk("x"), keys])] {
            assert_eq!(page(nonsense), None);
        }
        let info = "# Memory\r\nused_memory:123\r\nused_memory_human:1K\r\nmaxmemory:7\r\n";
        assert_eq!((figure(info, "used_memory:"), figure(info, "maxmemory:")), (Some(123), Some(7)));
        assert_eq!(figure("maxmemory:1", "used_memory:"), None);
    }
}
