/** Types of `rbac-enemy-lanes.mjs`, for the spec that makes the lanes. */

export type Kind = 'assignment' | 'activation' | 'grant' | 'place' | 'holders' | 'members' | 'catalogue';

export interface Lane {
  readonly kind: Kind;
  readonly user: string;
  readonly role: string;
  readonly permission: string;
  readonly top: string;
  readonly child: string;
}

export const groups: { readonly own: readonly Kind[]; readonly shared: readonly Kind[] };
