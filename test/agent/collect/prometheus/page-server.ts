import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';

/** An HTTP server on a free loopback port that shows what it was last told to. */
export class PageServer implements AsyncDisposable {
  /** The body of a 200, or what to do with a request. */
  page: string | Buffer | RequestListener = '';
  requests = 0;
  readonly #server = createServer((request, response) => {
    this.requests++;
    if (typeof this.page === 'function') this.page(request, response);
    else response.end(this.page);
  });

  static async listen(): Promise<PageServer> {
    const server = new PageServer();
    const { promise, resolve } = Promise.withResolvers<void>();
    server.#server.listen(0, '127.0.0.1', resolve);
    await promise;
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/metrics`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }
}
