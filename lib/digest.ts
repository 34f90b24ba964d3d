/**
 * SHA-256 as 43 characters of a key. The module that computes it is loaded with the first digest: it costs a process some
 * megabytes, and many never need one.
 */

import type { createHash } from 'node:crypto';

let create: typeof createHash | undefined;

export function sha256(of: string | Buffer): string {
  create ??= (require('node:crypto') as { createHash: typeof createHash }).createHash;
  return create('sha256').update(of).digest('base64url');
}
