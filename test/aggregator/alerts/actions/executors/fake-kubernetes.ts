import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type CertificateFiles, TestAuthority } from '../../../../shared/security/certificates.ts';

/** What a pod of the fake is; all else of a Pod object is made from it. */
export interface FakePod {
  readonly name: string;
  readonly owner?: 'DaemonSet' | 'ReplicaSet' | 'Job';
  readonly mirror?: boolean;
  readonly phase?: string;
  /** Held by a disruption budget: so many evictions are refused with 429. */
  budget?: number;
  /** Evicted: it goes at the next list but one. */
  leaving?: number;
}

interface FakeNode {
  resourceVersion: number;
  annotations: Record<string, string>;
  spec: { unschedulable?: boolean; taints?: Record<string, unknown>[] };
}

/** An answer in place of the next one to a request that this is for. */
interface Fault {
  readonly method: string;
  readonly path: RegExp;
  readonly status: number;
  readonly message: string;
  readonly headers?: Record<string, string>;
  times: number;
}

/**
 * An API server over TLS that speaks what Kubernetes documents of nodes, pods and evictions: bearer tokens (401),
 * merge patches with optimistic locking (409), lists by field with limit and continue (410), evictions with budgets
 * (429), and Status objects for all that is no 2xx.
 */
export class FakeKubernetes implements AsyncDisposable {
  readonly node: FakeNode = { resourceVersion: 1, annotations: { kept: 'yes' }, spec: { taints: [] } };
  pods: FakePod[] = [];
  readonly evicted: { readonly name: string; readonly body: Record<string, unknown> }[] = [];
  /** Requests that change something. */
  changes = 0;
  token = 'the-token-of-a-service-account';
  /** Pods of a page at most, whatever limit says. */
  pageSize = 500;
  readonly faults: Fault[] = [];
  /** Called before each PATCH is judged: somebody else may be first. */
  beforePatch: () => void = () => {};
  /** Takes requests and says nothing. */
  isHanging = false;
  readonly authority: TestAuthority;
  readonly #server: Server;
  #open = true;

  private constructor(authority: TestAuthority, files: CertificateFiles) {
    this.authority = authority;
    this.#server = createServer(
      { cert: readFileSync(files.cert), key: readFileSync(files.key) },
      (request, response) => {
        void this.#answer(request, response);
      },
    );
  }

  static async start(): Promise<FakeKubernetes> {
    const authority = await TestAuthority.create();
    const fake = new FakeKubernetes(authority, await authority.issue('api', 'IP:127.0.0.1'));
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  fail(method: string, path: RegExp, status: number, message: string, more: Partial<Fault> = {}): void {
    this.faults.push({ method, path, status, message, times: 1, ...more });
  }

  /** Drops connections, and every one that comes. */
  silence(): void {
    this.#open = false;
    this.#server.closeAllConnections();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await this.authority[Symbol.asyncDispose]();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (!this.#open) return request.socket.destroy();
    if (this.isHanging) return undefined;
    const { method = '', url = '', headers } = request;
    const path = new URL(url, 'https://x');
    const fault = this.faults.find(
      (one) => one.times > 0 && one.method === method && one.path.test(path.pathname),
    );
    if (headers.authorization !== `Bearer ${this.token}`) return status(response, 401, 'Unauthorized');
    if (fault) {
      fault.times--;
      return status(response, fault.status, fault.message, fault.headers);
    }
    const body = chunks.length === 0 ? undefined : (JSON.parse(Buffer.concat(chunks).toString()) as Patch);
    const evicts = /^\/api\/v1\/namespaces\/ml\/pods\/([^/]+)\/eviction$/.exec(path.pathname);
    if (path.pathname === '/api/v1/nodes/node-a' && method === 'GET')
      return json(response, 200, this.#nodeObject());
    if (path.pathname === '/api/v1/nodes/node-a' && method === 'PATCH')
      return this.#patch(response, headers, body!);
    if (path.pathname === '/api/v1/pods' && method === 'GET') return this.#list(response, path.searchParams);
    if (evicts && method === 'POST') return this.#evict(response, evicts[1]!, { ...body });
    return status(response, 404, `${path.pathname} not found`);
  }

  #nodeObject() {
    const { resourceVersion, annotations, spec } = this.node;
    const metadata = { name: 'node-a', resourceVersion: String(resourceVersion), annotations };
    return { kind: 'Node', apiVersion: 'v1', metadata, spec, status: {} };
  }

  #patch(
    response: ServerResponse,
    headers: IncomingMessage['headers'],
    { metadata, spec }: Patch,
  ): ServerResponse {
    if (headers['content-type'] !== 'application/merge-patch+json')
      return status(response, 415, 'not a merge patch');
    this.beforePatch();
    if (metadata.resourceVersion !== String(this.node.resourceVersion))
      return status(
        response,
        409,
        'the object has been modified; please apply your changes to the latest version',
      );
    this.changes++;
    this.node.resourceVersion++;
    merge(this.node.annotations, metadata.annotations);
    merge(this.node.spec, spec);
    return json(response, 200, this.#nodeObject());
  }

  #list(response: ServerResponse, query: URLSearchParams): ServerResponse {
    if (query.get('fieldSelector') !== 'spec.nodeName=node-a')
      return json(response, 200, { items: [], metadata: {} });
    const from = Number(query.get('continue') ?? 0);
    if (from === 0) this.pods = this.pods.filter((pod) => pod.leaving === undefined || pod.leaving-- > 0);
    const to = from + Math.min(this.pageSize, Number(query.get('limit')));
    const items = this.pods.slice(from, to).map(podObject);
    const metadata = to < this.pods.length ? { continue: String(to) } : {};
    return json(response, 200, { kind: 'PodList', apiVersion: 'v1', metadata, items });
  }

  #evict(response: ServerResponse, name: string, body: Record<string, unknown>): ServerResponse {
    const pod = this.pods.find((one) => one.name === name);
    if (!pod) return status(response, 404, `pods "${name}" not found`);
    if (body.apiVersion !== 'policy/v1' || body.kind !== 'Eviction')
      return status(response, 400, 'not an Eviction');
    if (pod.budget && pod.budget-- > 0)
      return status(response, 429, "Cannot evict pod as it would violate the pod's disruption budget.", {
        'retry-after': '10',
      });
    this.changes++;
    pod.leaving = 1;
    this.evicted.push({ name, body });
    return json(response, 201, { kind: 'Status', apiVersion: 'v1', status: 'Success', code: 201 });
  }
}

interface Patch {
  readonly metadata: { readonly resourceVersion?: string; readonly annotations: Record<string, unknown> };
  readonly spec: Record<string, unknown>;
}

/** RFC 7396, one level deep: what is null goes. */
function merge(onto: object, patch: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete (onto as Record<string, unknown>)[name];
    else (onto as Record<string, unknown>)[name] = value;
  }
}

function podObject({ name, owner, mirror, phase = 'Running', leaving }: FakePod) {
  return {
    metadata: {
      name,
      namespace: 'ml',
      uid: `uid-${name}`,
      ...(mirror && { annotations: { 'kubernetes.io/config.mirror': 'x' } }),
      ...(owner && { ownerReferences: [{ kind: owner, name: 'o', controller: true }] }),
      ...(leaving !== undefined && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
    },
    spec: { nodeName: 'node-a' },
    status: { phase },
  };
}

function status(
  response: ServerResponse,
  code: number,
  message: string,
  headers: Record<string, string> = {},
): ServerResponse {
  return json(
    response,
    code,
    { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, code },
    headers,
  );
}

function json(
  response: ServerResponse,
  code: number,
  body: object,
  headers: Record<string, string> = {},
): ServerResponse {
  return response
    .writeHead(code, { 'content-type': 'application/json', ...headers })
    .end(JSON.stringify(body));
}
