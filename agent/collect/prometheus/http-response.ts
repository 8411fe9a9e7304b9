/** What the head of a final response says to whoever reads its body. */
export interface ResponseHead {
  readonly status: number;
  /** As sent, the first of several; empty where there is none. */
  readonly contentType: string;
  /** In lower case; empty where there is none. */
  readonly contentEncoding: string;
}

export interface HttpResponseOptions {
  /** A larger body, as sent, is refused with OversizedBody. */
  readonly maxBodyBytes: number;
  /** Called before anything is done about the body. A throw ends the response. */
  readonly onHead: (head: ResponseHead) => void;
}

/** The body is larger than allowed, or is going to be. */
export class OversizedBody extends Error {
  constructor() {
    super('the body is too large');
  }
}

type State =
  | 'status'
  | 'fields'
  | 'body'
  | 'body until close'
  | 'chunk size'
  | 'chunk'
  | 'chunk end'
  | 'trailers'
  | 'done';

/** Of all heads of a response, and once more of what chunks have beside their data: the limit of node:http. */
const MAX_HEADER_BYTES = 16 * 1024;
/** What a body of unknown length begins with. */
const FIRST_BODY_BYTES = 16 * 1024;
/** A buffer of more is given up once a body needed less than a quarter of it. */
const ALWAYS_KEPT_BYTES = 256 * 1024;
/** What an answer says is shown in an error up to here. */
const SHOWN_CHARACTERS = 60;
const LINE_FEED = 0x0a;
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: .*)?$/;
const NAME = /^[\w!#$%&'*+.^`|~-]+$/;
/** Anything but tab, printable ASCII and what is beyond ASCII, which no standard gives a meaning. */
const UNPRINTABLE = /[^\t\x20-\x7e\x80-\xff]/;
/** Up to the largest that float64 counts exactly. */
const LENGTH = /^\d{1,15}$/;
/** A size of at most 2^48, and extensions. */
const CHUNK_SIZE = /^([\da-f]{1,12})[ \t]*(?:;.*)?$/i;
/** Fields that the framing or the reader of the body needs. */
const NEEDED: ReadonlySet<string> = new Set([
  ...['content-length', 'transfer-encoding', 'connection'],
  ...['content-type', 'content-encoding'],
]);
const NOTHING = Buffer.alloc(0);

/**
 * Reads responses to GET (RFC 9112, HTTP/1.0 and 1.1) one after the other, in pieces of any size. Strict where two
 * readers could disagree about where a response ends: bare line feeds, folded fields, spaces before a colon, lengths
 * that differ and transfer encodings other than `chunked` are refused.
 *
 * The body is gathered in one buffer that is used again for the next response, so a body of the usual size makes no
 * garbage. Memory: at most that buffer, of twice the largest body that was seen lately and never more than the limit,
 * and one line.
 */
export class HttpResponse {
  readonly #limit: number;
  readonly #onHead: (head: ResponseHead) => void;
  readonly #fields = new Map<string, string>();
  #state: State = 'done';
  #begun = false;
  #status = 0;
  /** HTTP/1.0, where connections are kept only by agreement. */
  #isOld = false;
  #keepAlive = false;
  /** What came of a line that is not complete. */
  #line = '';
  /** Bytes that lines may still take. */
  #room = 0;
  #buffer: Buffer = NOTHING;
  #size = 0;
  /** Of the body or the chunk. */
  #missing = 0;

  constructor({ maxBodyBytes, onHead }: HttpResponseOptions) {
    this.#limit = maxBodyBytes;
    this.#onHead = onHead;
  }

  /** Whether any byte of the response has come. */
  get begun(): boolean {
    return this.#begun;
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  /** Of a response that is done: whether the connection may be used for another. */
  get keepAlive(): boolean {
    return this.#keepAlive;
  }

  /** What came of the body, as sent. A view that the next response overwrites. */
  get body(): Buffer {
    return this.#buffer.subarray(0, this.#size);
  }

  /** Forgets the last response and expects the next. */
  begin(): void {
    if (this.#buffer.length > ALWAYS_KEPT_BYTES && this.#size < this.#buffer.length / 4) this.release();
    this.#size = 0;
    this.#begun = false;
    this.#line = '';
    this.#room = MAX_HEADER_BYTES;
    this.#fields.clear();
    this.#state = 'status';
  }

  /** Gives the memory of the body back. */
  release(): void {
    this.#buffer = NOTHING;
    this.#size = 0;
  }

  /**
   * Takes the next bytes, and returns how many of them belong to the response: fewer only where it is done. Throws
   * where they are no HTTP response or too large, after which nothing more may be taken.
   */
  take(bytes: Buffer): number {
    if (bytes.length > 0) this.#begun = true;
    let at = 0;
    while (at < bytes.length && this.#state !== 'done') {
      at = isBody(this.#state) ? this.#gather(bytes, at) : this.#readLine(bytes, at);
    }
    return at;
  }

  /** The other side sends no more. Throws where the response is not complete. */
  end(): void {
    if (this.#state === 'body until close') this.#state = 'done';
    if (this.#state === 'done') return;
    throw new Error(
      this.#begun
        ? 'the connection was closed in the middle of the answer'
        : 'the connection was closed without an answer',
    );
  }

  #gather(bytes: Buffer, from: number): number {
    const count = Math.min(bytes.length - from, this.#missing);
    this.#reserve(this.#size + count);
    bytes.copy(this.#buffer, this.#size, from, from + count);
    this.#size += count;
    this.#missing -= count;
    if (this.#missing === 0) this.#state = this.#state === 'chunk' ? 'chunk end' : 'done';
    return from + count;
  }

  #reserve(bytes: number): void {
    if (bytes > this.#limit) throw new OversizedBody();
    if (bytes <= this.#buffer.length) return;
    const wanted = Math.max(bytes, this.#buffer.length * 2, FIRST_BODY_BYTES);
    const grown = Buffer.allocUnsafeSlow(Math.min(wanted, this.#limit));
    this.#buffer.copy(grown, 0, 0, this.#size);
    this.#buffer = grown;
  }

  #readLine(bytes: Buffer, from: number): number {
    const feed = bytes.indexOf(LINE_FEED, from);
    const end = feed < 0 ? bytes.length : feed + 1;
    if (this.#line.length + end - from > this.#room) {
      throw new Error(`its headers are larger than ${MAX_HEADER_BYTES} bytes`);
    }
    this.#line += bytes.toString('latin1', from, end);
    if (feed < 0) return end;
    const line = this.#line.slice(0, -2);
    if (!this.#line.endsWith('\r\n') || UNPRINTABLE.test(line)) throw malformed('line', line);
    this.#line = '';
    this.#takeLine(line);
    return end;
  }

  #takeLine(line: string): void {
    switch (this.#state) {
      case 'status':
        this.#takeStatus(line);
        break;
      case 'fields':
        this.#room -= line.length + 2;
        if (line === '') this.#endHead();
        else this.#takeField(line);
        break;
      case 'chunk size':
        this.#takeChunkSize(line);
        break;
      case 'chunk end':
        if (line !== '') throw malformed('end of a chunk', line);
        this.#state = 'chunk size';
        break;
      default:
        this.#room -= line.length + 2;
        if (line === '') this.#state = 'done';
    }
  }

  #takeStatus(line: string): void {
    const [, minor, status] = STATUS_LINE.exec(line) ?? [];
    if (status === undefined) throw malformed('status line', line);
    this.#status = Number(status);
    this.#room -= line.length + 2;
    this.#isOld = minor === '0';
    this.#state = 'fields';
  }

  #takeField(line: string): void {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(colon, 0));
    if (!NAME.test(name)) throw malformed('header', line);
    const field = name.toLowerCase();
    if (!NEEDED.has(field)) return;
    const before = this.#fields.get(field);
    if (before !== undefined && field === 'content-type') return;
    const value = trimmed(line, colon + 1);
    this.#fields.set(field, before === undefined ? value : `${before},${value}`);
  }

  #endHead(): void {
    const status = this.#status;
    // Switching protocols (101) was not asked for, and is the end of HTTP.
    if (status < 200 && status !== 101) {
      this.#fields.clear();
      this.#state = 'status';
      return;
    }
    this.#room = MAX_HEADER_BYTES;
    this.#onHead({
      status,
      contentType: this.#fields.get('content-type') ?? '',
      contentEncoding: (this.#fields.get('content-encoding') ?? '').toLowerCase(),
    });
    this.#judgeConnection();
    if (status === 101 || status === 204 || status === 304) this.#state = 'done';
    else this.#frame();
  }

  #judgeConnection(): void {
    const options = partsOf(this.#fields.get('connection')?.toLowerCase() ?? '');
    const agreed = !this.#isOld || options.includes('keep-alive');
    this.#keepAlive = agreed && !options.includes('close') && this.#status !== 101;
  }

  /** Where the body ends. */
  #frame(): void {
    const length = lengthIn(this.#fields.get('content-length'));
    const encoding = this.#fields.get('transfer-encoding');
    if (encoding !== undefined) {
      if (encoding.toLowerCase() !== 'chunked') throw malformed('transfer encoding', encoding);
      // Whoever sends both, or chunks that HTTP/1.0 does not have, may pass on what somebody else meant otherwise.
      if (length !== undefined || this.#isOld) this.#keepAlive = false;
      this.#state = 'chunk size';
    } else if (length === undefined) {
      this.#keepAlive = false;
      this.#expect('body until close', Number.POSITIVE_INFINITY);
    } else {
      this.#reserve(length);
      this.#expect(length === 0 ? 'done' : 'body', length);
    }
  }

  #takeChunkSize(line: string): void {
    const digits = CHUNK_SIZE.exec(line)?.[1];
    if (digits === undefined) throw malformed('size of a chunk', line);
    this.#room -= line.length - digits.length;
    const size = Number.parseInt(digits, 16);
    if (this.#size + size > this.#limit) throw new OversizedBody();
    this.#expect(size === 0 ? 'trailers' : 'chunk', size);
  }

  #expect(state: State, bytes: number): void {
    this.#state = state;
    this.#missing = bytes;
  }
}

function isBody(state: State): boolean {
  return state === 'body' || state === 'chunk' || state === 'body until close';
}

/** Of a field that may be there several times, if all agree. */
function lengthIn(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const [first, ...others] = partsOf(value);
  if (!LENGTH.test(first!) || others.some((one) => one !== first)) throw malformed('content length', value);
  return Number(first);
}

function partsOf(list: string): string[] {
  return list.split(',').map((part) => trimmed(part, 0));
}

/** Without the spaces and tabs around it: String.trim takes more, and expressions for the end backtrack. */
function trimmed(text: string, from: number): string {
  let start = from;
  let end = text.length;
  while (start < end && isBlank(text, start)) start++;
  while (end > start && isBlank(text, end - 1)) end--;
  return text.slice(start, end);
}

function isBlank(text: string, at: number): boolean {
  return text[at] === ' ' || text[at] === '\t';
}

function malformed(what: string, text: string): Error {
  return new Error(`its ${what} is not one of HTTP: ${JSON.stringify(text.slice(0, SHOWN_CHARACTERS))}`);
}
