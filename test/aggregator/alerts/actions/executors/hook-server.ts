import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Call {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** As it came, for its signature. */
  readonly text: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Somebody's webhook: keeps what it is sent, and answers what it is told to. */
export class HookServer implements AsyncDisposable {
  readonly calls: Call[] = [];
  status = 200;
  answer = '{}';
  /** Takes requests and says nothing. */
  isSilent = false;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const text = Buffer.concat(chunks).toString();
      this.calls.push({ path: request.url!, headers: request.headers, text, body: JSON.parse(text) });
      if (!this.isSilent) response.writeHead(this.status).end(this.answer);
    });
  }

  static async start(): Promise<HookServer> {
    const hook = new HookServer();
    await new Promise<void>((resolve) => hook.#server.listen(0, '127.0.0.1', resolve));
    return hook;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/hook`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
