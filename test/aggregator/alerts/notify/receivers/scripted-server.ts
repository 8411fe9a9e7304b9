import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The very bytes, as text. */
  readonly body: string;
}

export interface ScriptedAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** What a place does with what it is sent: as documented, or one of the ways in which it fails. */
export type Mood = 'take' | 'refuse' | 'busy' | 'broken' | 'hang';

/** An HTTP server that speaks somebody's protocol, and notes what it was asked. */
export interface ScriptedServer extends AsyncDisposable {
  readonly url: string;
  readonly seen: readonly SeenRequest[];
  mood: Mood;
}

const MOODS: Readonly<Record<Exclude<Mood, 'take' | 'hang'>, ScriptedAnswer>> = {
  refuse: { status: 403, body: 'forbidden' },
  busy: { status: 429, headers: { 'retry-after': '17' }, body: 'slow down' },
  broken: { status: 502, body: 'bad gateway' },
};

export async function startScriptedServer(
  answer: (request: SeenRequest) => ScriptedAnswer,
  tls?: ServerOptions,
): Promise<ScriptedServer> {
  const seen: SeenRequest[] = [];
  const listener: RequestListener = async (request, response) => {
    const parts: Buffer[] = [];
    try {
      for await (const part of request) parts.push(part as Buffer);
    } catch {
      return;
    }
    const { method = '', url = '', headers } = request;
    const noted = { method, path: url, headers, body: Buffer.concat(parts).toString() };
    seen.push(noted);
    if (scripted.mood === 'hang') return;
    const {
      status,
      headers: more = {},
      body = '',
    } = scripted.mood === 'take' ? answer(noted) : MOODS[scripted.mood];
    response.writeHead(status, more).end(body);
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const scripted: ScriptedServer = {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    seen,
    mood: 'take',
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return scripted;
}
