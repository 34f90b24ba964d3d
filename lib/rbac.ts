/**
 * Contexts, roles and their invalidation, as the engine offers them. No policy here: what a context is and
 * whether it is current is decided on the native side.
 * Invariant: an object that is here already is handed out only when the native side names it for this very call.
 */

import type * as Public from '../index.js';
import {
  abortable,
  check,
  consistency,
  deadline,
  hold,
  type InvalidateOptions,
  reasonText,
  text,
} from './arguments.js';
import type { Answers, Question } from './authorize.js';
import { BOUNDED, type Consistency, FRESH, VALIDATED } from './consistency.js';
import { type Delivered, handOut } from './contexts.js';
import { BcosCacheError } from './errors.js';
import { combined, flat } from './limiter/limits.js';
import type { Hot, NativeEngine, ObjectReply, Voided } from './native.js';
import type { Objects } from './objects.js';
import { currentSnapshot, dropping } from './snapshot.js';

export class Rbac {
  readonly #native: NativeEngine;
  readonly #hot: Hot;
  readonly #objects: Objects;

  constructor(native: NativeEngine, hot: Hot, objects: Objects) {
    this.#native = native;
    this.#hot = hot;
    this.#objects = objects;
  }

  async context(userId: string, options?: Public.ContextOptions): Promise<Public.UserContext> {
    const id = text('userId', userId);
    let wanted: Consistency = VALIDATED;
    if (options !== undefined) {
      check(options);
      wanted = consistency(options.consistency);
    }
    // A request that asks for the source neither believes what it has seen before nor changes it.
    const snapshot = wanted === FRESH ? undefined : currentSnapshot();
    const kept = snapshot?.get(this, id);
    if (kept !== undefined) return kept;
    const version = snapshot === undefined ? 0 : snapshot.version;
    // The usual cases without a closure or a second promise: this is asked for every request.
    let found: Delivered | undefined;
    let serial = 0;
    if (wanted !== FRESH) {
      serial = this.#hot.peekContext(id, wanted === BOUNDED);
      if (serial > 0) found = this.#objects.get(serial) as Delivered | undefined;
    }
    if (found === undefined) {
      // A number that is not known here need not be answered with the number again.
      const reply = await abortable(this.#ask(id, wanted, serial > 0, deadline(options)), options?.signal);
      found = this.#delivered(reply);
      if (found === undefined) {
        const full = await abortable(this.#ask(id, wanted, true, deadline(options)), options?.signal);
        found = this.#delivered(full);
        if (found === undefined) throw defect('the native side gave no context');
      }
    }
    return snapshot === undefined ? found.context : snapshot.keep(this, found.context, version);
  }

  async role(roleId: string, options?: Public.CallOptions): Promise<Public.Role | null> {
    const id = text('roleId', roleId);
    if (options !== undefined) check(options);
    let reply = await abortable(this.#hot.rolePermissions(id, false, deadline(options)), options?.signal);
    let role = reply === null ? null : this.#objects.of(reply);
    if (role === undefined) {
      reply = await abortable(this.#hot.rolePermissions(id, true, deadline(options)), options?.signal);
      role = reply === null ? null : this.#objects.of(reply);
    }
    if (role === undefined) throw defect('the native side gave no role');
    return role as Public.Role | null;
  }

  async invalidate(
    what: Voided,
    id: string,
    reason: string | undefined,
    options: InvalidateOptions | undefined,
  ): Promise<Public.InvalidationResult> {
    const why = reasonText(reason);
    const reply = this.#native.invalidateRbac(what, id, why, hold(options), deadline(options));
    const [acknowledged, queued] = await abortable(dropping(reply), options?.signal);
    return { acknowledged, queued };
  }

  /** Everything one request is decided by, in one round trip. */
  async answers(question: Question, options: Public.CallOptions | undefined): Promise<Answers> {
    const snapshot = question.consistency === FRESH ? undefined : currentSnapshot();
    const version = snapshot === undefined ? 0 : snapshot.version;
    let found = await this.#authorize(question, false, options);
    if (found.missing) {
      // What a request costs was charged by the first one.
      const { limits } = found;
      found = { ...(await this.#authorize({ ...question, limits: null }, true, options)), limits };
      if (found.missing) throw defect('the native side gave no objects');
    }
    if (snapshot === undefined || found.context === undefined) return found;
    return { ...found, context: snapshot.keep(this, found.context, version) };
  }

  /** `missing` when only numbers came and one of them is not known here. */
  async #authorize(
    { token, tokenId, userId, checkToken, consistency, limits }: Question,
    full: boolean,
    options: Public.CallOptions | undefined,
  ): Promise<Answers & { readonly missing: boolean }> {
    const asked = this.#hot.authorize(
      token,
      tokenId,
      userId,
      checkToken,
      consistency,
      full,
      deadline(options),
      limits === null ? null : flat(limits),
    );
    const [revoked, payloadReply, contextReply, denied, usedToken, usedUser, told] = await abortable(
      asked,
      options?.signal,
    );
    if (limits !== null && told === null) throw defect('the native side did not count the request');
    const payload = payloadReply === null ? null : this.#objects.of(payloadReply);
    const context = contextReply === null ? null : this.#delivered(contextReply);
    return {
      revoked,
      payload: payload ?? null,
      context: context?.context,
      denied,
      tokenId: usedToken,
      userId: usedUser,
      limits: limits === null || told === null ? null : combined(told, limits),
      missing: payload === undefined || context === undefined,
    };
  }

  #ask(id: string, wanted: Consistency, full: boolean, deadlineMs: number): Promise<ObjectReply> {
    if (wanted === BOUNDED) return this.#hot.userContextBounded(id, full, deadlineMs);
    if (wanted === FRESH) return this.#hot.userContextFresh(id, full, deadlineMs);
    return this.#hot.userContext(id, full, deadlineMs);
  }

  #delivered(reply: ObjectReply): Delivered | undefined {
    return reply === null ? undefined : (this.#objects.of(reply, handOut) as Delivered | undefined);
  }
}

function defect(message: string): BcosCacheError {
  return new BcosCacheError('E_INTERNAL', message);
}
