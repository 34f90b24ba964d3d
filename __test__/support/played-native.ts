/**
 * A native side that is played, for what the TypeScript side decides by itself: contexts by user id, each under a new
 * number after every change, and whatever else a test puts here. Not a stand-in for the real one: specs of behaviour
 * start that.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import * as api from '../../index.js';

export const root = join(__dirname, '..', '..');
export const load = createRequire(join(root, 'index.js'));
export const USER = '3f2504e0-4f89-11d3-9a0c-0305e82c3301';
export const OTHER = '9b2504e0-4f89-11d3-9a0c-0305e82c3302';

type Reply = null | number | string | readonly [serial: number, text: string];
export interface Kept {
  serial: number;
  text: string;
}

export const permissionOf = (text: string): api.Permission => {
  const [resource = '', action = '', scope = ''] = text.split(':');
  const dates = { created_at: null, updated_at: null };
  return {
    permission_id: text,
    name: text,
    description: null,
    resource,
    action,
    scope,
    is_active: true,
    ...dates,
  };
};

export const plain = (more: Partial<api.UserContext> = {}): api.UserContext => ({
  user_id: USER,
  email: 'ada@example.org',
  first_name: 'Ada',
  last_name: 'L',
  is_active: true,
  email_verified: true,
  provider_uid: 7,
  roles: [],
  organizations: [],
  accessible_organizations: [],
  accessible_practices: [1, 2],
  user_roles: [],
  user_organizations: [],
  current_organization_id: null,
  all_permissions: [],
  is_super_admin: false,
  organization_admin_for: [],
  ...more,
});

/** Plays the native side: contexts by user id, each under a new number after every change. */
export class Native {
  readonly calls: unknown[][] = [];
  readonly kept = new Map<string, Kept>();
  /** Users whose context may be handed out without asking. */
  bounded = false;
  /** When not empty, contexts wait for it. */
  gate: Promise<unknown> | undefined;
  failure: unknown;
  /** Objects come in full, also to who should know their number. */
  whole = false;
  /** Nothing of an unverified token is in the cache, so nothing is told of it. */
  careful = false;
  revoked: boolean | null = false;
  payload: object | null = null;
  denied: string | null = null;
  /** What the limits of a request say, five numbers each; all admitted when left alone. */
  limits: readonly number[] | null = null;
  role: Reply = null;
  /** Claims that may hold the user id. */
  claims: readonly string[] = ['user_id', 'sub'];
  #serial = 0;

  set(context: api.UserContext, scopes: Record<string, string> = {}): void {
    const user = { user_id: context.user_id, email: context.email };
    this.#serial += 1;
    this.kept.set(context.user_id, { serial: this.#serial, text: JSON.stringify({ context, user, scopes }) });
  }

  count(name: string): number {
    return this.calls.filter(([called]) => called === name).length;
  }

  async #context(name: string, id: string, full: boolean): Promise<Reply> {
    this.calls.push([name, id, full]);
    const found = this.kept.get(id.toLowerCase());
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    if (found === undefined) throw new api.NotFoundError('none', { field: 'userId', reason: 'unknown' });
    return full || this.whole ? [found.serial, found.text] : found.serial;
  }

  userClaims(): readonly string[] {
    return this.claims;
  }

  rateLimits(): string {
    const api = { limit: 500, windowSeconds: 60, onStoreFailure: 'local' };
    return JSON.stringify({ named: { api }, onStoreFailure: 'local', trustedProxies: null });
  }

  #told(limits: readonly unknown[]): readonly number[] {
    const admitted = [1, 9, 1_000, 2_000, 0];
    return this.limits ?? Array.from({ length: limits.length / 6 }, () => admitted).flat();
  }

  /** As it crosses: the numbers of each limit in 1, 2, 3, 3 and 3 characters of 16 bits. */
  #packed(told: readonly number[]): string {
    const widths = [1, 2, 3, 3, 3];
    const characters = told.flatMap((number, at) =>
      Array.from({ length: widths[at % 5] as number }, (_, place) =>
        Number((BigInt(number) >> BigInt(16 * ((widths[at % 5] as number) - 1 - place))) & 0xffffn),
      ),
    );
    return String.fromCharCode(...characters);
  }

  hot(): object {
    return {
      peekContext: (id: string, asked: boolean) => {
        this.calls.push(['peekContext', id, asked]);
        return asked || this.bounded ? (this.kept.get(id)?.serial ?? 0) : 0;
      },
      userContext: (id: string, full: boolean) => this.#context('userContext', id, full),
      userContextBounded: (id: string, full: boolean) => this.#context('userContextBounded', id, full),
      userContextFresh: (id: string, full: boolean) => this.#context('userContextFresh', id, full),
      rolePermissions: async (id: string, full: boolean) => {
        this.calls.push(['rolePermissions', id, full]);
        return full || !Array.isArray(this.role) ? this.role : this.role[0];
      },
      authorize: async (
        token: string | null,
        tokenId: string | null,
        userId: string | null,
        checkToken: boolean,
        consistency: number,
        full: boolean,
        deadlineMs: number,
        limits: readonly unknown[] | null,
      ) => {
        const given = [token, tokenId, userId, checkToken, consistency, full, deadlineMs];
        this.calls.push(['authorize', ...given, ...(limits === null ? [] : [limits])]);
        const told = limits === null ? null : this.#told(limits);
        if (told?.some((state, at) => at % 5 === 0 && (state & 3) !== 1)) {
          return [null, null, null, null, null, null, this.#packed(told)];
        }
        const packed = told === null ? null : this.#packed(told);
        const { jti = null, user_id = null } = claimsIn(token);
        const id = userId ?? user_id;
        const found = id === null || this.denied !== null ? undefined : this.kept.get(id.toLowerCase());
        await this.gate;
        if (this.failure !== undefined) throw this.failure;
        if (this.careful && token !== null && this.payload === null) {
          return [null, null, null, null, checkToken ? (tokenId ?? jti) : null, id, packed];
        }
        const missing = id !== null && found === undefined ? 'unknown' : null;
        return [
          checkToken ? this.revoked : null,
          this.payload === null ? null : JSON.stringify(this.payload),
          found === undefined ? null : full ? [found.serial, found.text] : found.serial,
          this.denied ?? missing,
          checkToken ? (tokenId ?? jti) : null,
          id,
          packed,
        ];
      },
      limits: async (limits: readonly unknown[], charge: boolean) => {
        this.calls.push(['limits', limits, charge]);
        return this.#packed(this.#told(limits));
      },
      beginJwt: async () => [-1, 0],
    };
  }

  endJwt = async () => 0;
  invalidateRbac = async (...given: unknown[]) => {
    this.calls.push(['invalidateRbac', ...given]);
    await this.gate;
    return [true, false, null];
  };
}

/** Tokens of these tests are readable: `jti|user`; an empty part is a missing claim. */
export const tokenOf = (jti: string, user: string) => `${jti}|${user}`;
function claimsIn(token: string | null): { jti?: string; user_id?: string } {
  const [jti, user] = token?.split('|') ?? [];
  return { ...(jti ? { jti } : {}), ...(user ? { user_id: user } : {}) };
}
export const verify = (token: string) => ({ ...claimsIn(token), verified: true });

export const { Engine } = load('./dist/engine.js') as {
  Engine: new (native: Native) => api.Engine;
};
