import type { OnReadOpts, Socket } from 'node:net';
import type { HttpResponse } from './http-response.ts';

export interface HttpConnectionOptions {
  /** Opens the socket. It must be given `onread`, which is how the answers come. */
  readonly open: (onread: OnReadOpts) => Socket;
  /** What the socket emits once a request may be sent: with TLS, not before the other side has proved who it is. */
  readonly ready: 'connect' | 'secureConnect';
  /** What comes is read into this, a piece at a time. */
  readonly buffer: Buffer;
  readonly response: HttpResponse;
}

/** An HTTP/1.1 connection that is kept open, for one request at a time. Without one it does not keep the process alive. */
export class HttpConnection {
  readonly #socket: Socket;
  readonly #options: HttpConnectionOptions;
  readonly #abort = (): void => this.#fail(new Error('the request was aborted'));
  #ready = false;
  #answer: PromiseWithResolvers<void> | undefined;

  constructor(options: HttpConnectionOptions) {
    this.#options = options;
    const { open, ready, buffer } = options;
    const callback = (count: number): boolean => {
      this.#take(buffer.subarray(0, count));
      return true;
    };
    this.#socket = open({ buffer, callback });
    this.#socket.once(ready, () => {
      this.#ready = true;
    });
    this.#socket.on('end', () => this.#end());
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed')));
  }

  /** False once the other side or this one ended it. */
  get usable(): boolean {
    return !this.#socket.destroyed;
  }

  /**
   * Sends a request (latin1) and settles when the response is done. Whatever fails, the signal included, ends the
   * connection; so does a response after which it cannot be kept.
   */
  async exchange(request: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#answer = Promise.withResolvers();
    this.#options.response.begin();
    signal.addEventListener('abort', this.#abort, { once: true });
    try {
      this.#send(request);
      await this.#answer.promise;
    } finally {
      signal.removeEventListener('abort', this.#abort);
    }
  }

  /** An exchange under way fails. */
  destroy(): void {
    this.#fail(new Error('the connection was given up'));
  }

  #send(request: string): void {
    const socket = this.#socket;
    if (!this.#ready) {
      socket.once(this.#options.ready, () => socket.write(request, 'latin1'));
    } else {
      socket.ref();
      socket.write(request, 'latin1');
    }
  }

  #take(bytes: Buffer): void {
    // Nobody asked: where such bytes were kept they would be taken for the answer to the next request.
    const { response } = this.#options;
    try {
      if (this.#answer === undefined) throw new Error('an answer came before it was asked for');
      const taken = response.take(bytes);
      if (response.done) this.#finish(taken === bytes.length && response.keepAlive);
    } catch (error) {
      this.#fail(error);
    }
  }

  #end(): void {
    try {
      if (this.#answer !== undefined) this.#options.response.end();
      this.#finish(false);
    } catch (error) {
      this.#fail(error);
    }
  }

  #finish(keep: boolean): void {
    if (keep) this.#socket.unref();
    else this.#socket.destroy();
    this.#answer?.resolve();
    this.#answer = undefined;
  }

  #fail(error: unknown): void {
    this.#socket.destroy();
    this.#answer?.reject(error);
    this.#answer = undefined;
  }
}
