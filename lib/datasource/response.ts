/**
 * A result as an HTTP response that a browser may keep for itself and ask about again. Its JSON is never parsed: the
 * times are read from its beginning.
 * Invariant: a tag names one result: the millisecond in which it was made and its length, or a digest of it.
 */

import type * as Public from '../../index.js';
import { sha256 } from '../digest.js';

const TIMES = /^\{"cached_at":"([^"]{1,40})","expires_at":"([^"]{1,40})"/;

export function asResponse(
  request: { readonly headers: { get(name: string): string | null } },
  result: Public.RawDataSourceResult,
  forced: boolean,
): Response {
  const { json: body } = result;
  const [, cachedAt] = TIMES.exec(body.subarray(0, 120).toString('latin1')) ?? [];
  const at = cachedAt === undefined ? undefined : Date.parse(cachedAt);
  // Without its times in front, which a property that looks like a number takes, it is named by all of it.
  const etag = `"${at === undefined ? sha256(body) : `${at.toString(36)}-${body.length.toString(36)}`}"`;
  const headers = {
    'content-type': 'application/json',
    'cache-control': 'private, max-age=0, must-revalidate',
    etag,
    ...(at === undefined ? {} : { age: String(Math.max(0, Math.floor((Date.now() - at) / 1_000))) }),
    'x-cache-status': status(result, forced),
  };
  if (matches(request.headers.get('if-none-match'), etag))
    return new Response(null, { status: 304, headers });
  // A Buffer may be a view of a larger piece of memory; Response takes exactly what it shows.
  return new Response(new Uint8Array(body.buffer as ArrayBuffer, body.byteOffset, body.length), { headers });
}

function status({ fromCache, stale }: Public.RawDataSourceResult, forced: boolean): string {
  if (fromCache) return stale === true ? 'STALE' : 'HIT';
  return forced ? 'REFRESH' : 'MISS';
}

/** Whether the client has it already. Weak and strong tags are the same here. */
function matches(given: string | null, etag: string): boolean {
  if (given === null) return false;
  return given.split(',').some((one) => one.trim() === '*' || one.trim().replace(/^W\//, '') === etag);
}
