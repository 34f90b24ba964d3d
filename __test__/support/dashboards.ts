/**
 * Dashboards for tests: the example of the demo, with its data, and small ones of a counter that a test changes. Rows
 * are written past the product.
 * Invariant: a small view and its query say the same, as an application has to make sure for its own.
 */
import type { EngineOptions } from '../../index.js';
import type { Database } from './database.js';

export type DashboardOption = NonNullable<EngineOptions['dashboard']>;
type Query = (text: string, params?: unknown[]) => Promise<Record<string, unknown>[]>;

interface Example {
  dashboardOptions(): Promise<DashboardOption>;
  installDashboard(query: Query): Promise<void>;
  removeDashboard(query: Query): Promise<void>;
}
interface Data {
  generate(query: Query, options: { rows: number; practices: number }): Promise<unknown>;
}

/** Written in JavaScript, and not part of what these tests are compiled with. */
const example = (): Promise<Example> => import('../../demo/dashboard/index.mjs' as string);
const data = (): Promise<Data> => import('../../demo/data.mjs' as string);

/** The demo's data and its view, in a database that has its tables. */
export async function installExample(database: Database): Promise<DashboardOption> {
  const query: Query = (text, params) => database.query(text, params);
  await (await data()).generate(query, { rows: 6_000, practices: 4 });
  const { installDashboard, dashboardOptions } = await example();
  await installDashboard(query);
  return dashboardOptions();
}

/** A table of one number, and a view of it. */
export class Counter {
  readonly view: string;

  private constructor(
    private readonly database: Database,
    readonly table: string,
  ) {
    this.view = `${table}_view`;
  }

  /** `body` is what the view computes besides; it ends up in its SQL. */
  static async in(
    database: Database,
    { name = 'counter', populated = true, indexed = true, body = '' } = {},
  ) {
    const counter = new Counter(database, name);
    await database.query(`CREATE TABLE ${name} (n integer NOT NULL); INSERT INTO ${name} VALUES (1)`);
    await counter.createView({ populated, indexed, body });
    return counter;
  }

  async createView({ populated = true, indexed = true, body = '' } = {}): Promise<void> {
    await this.database.query(
      `CREATE MATERIALIZED VIEW ${this.view} AS
         SELECT json_build_object('n', n) AS numbers, now() AS last_refreshed, 1 AS one FROM ${this.table} ${body}
         ${populated ? '' : 'WITH NO DATA'}`,
    );
    if (indexed) await this.createIndex();
  }

  createIndex(): Promise<unknown> {
    return this.database.query(`CREATE UNIQUE INDEX ON ${this.view} (one)`);
  }

  dropView(): Promise<unknown> {
    return this.database.query(`DROP MATERIALIZED VIEW IF EXISTS ${this.view}`);
  }

  set(n: number): Promise<unknown> {
    return this.database.query(`UPDATE ${this.table} SET n = $1`, [n]);
  }

  /** Behind the product's back. */
  refresh(): Promise<unknown> {
    return this.database.query(`REFRESH MATERIALIZED VIEW ${this.view}`);
  }

  option(more: Partial<DashboardOption> = {}): DashboardOption {
    return { view: this.view, queries: { numbers: `SELECT n FROM ${this.table};` }, ...more };
  }
}

/** What a dashboard of a counter says. */
export interface Numbers {
  readonly numbers: { readonly n: number };
}

/** A table of one row per tenant, and a view of it. */
export async function tenants(database: Database): Promise<DashboardOption> {
  await database.query(
    `CREATE TABLE tenant_figures (tenant text NOT NULL, secret text NOT NULL);
     INSERT INTO tenant_figures SELECT t, 'canary-of-' || t FROM unnest(ARRAY['a', 'b', 'A', 'a '' OR true']) AS t;
     CREATE MATERIALIZED VIEW tenant_view AS
       SELECT tenant, json_build_object('secret', secret) AS figures, now() AS last_refreshed FROM tenant_figures;
     CREATE UNIQUE INDEX ON tenant_view (tenant);
     INSERT INTO tenant_figures VALUES ('late', 'canary-of-late')`,
  );
  return {
    view: 'tenant_view',
    scopeColumn: 'tenant',
    queries: { figures: 'SELECT secret FROM tenant_figures WHERE tenant = $1 -- whose' },
  };
}
