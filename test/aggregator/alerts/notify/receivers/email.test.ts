import { describe, expect, test } from 'vitest';
import type { Notification, Receiver } from '../../../../../aggregator/alerts/notify/notification.ts';
import { TestAuthority } from '../../../../shared/security/certificates.ts';
import { tempDir } from '../../../../support/temp.ts';
import { until } from '../../../../support/wait.ts';
import { type MailHost, startMailHost } from './mail-host.ts';
import { canParseMail, headerOf, type ParsedMail, parsedMail } from './parsed-mail.ts';
import { openReceiver, secretIn } from './places.ts';
import {
  fullNotification,
  HOSTILE,
  hostileNotification,
  sampleAlert,
  sampleNotification,
} from './sample-notification.ts';

const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const PLAIN = { tls: 'none', from: 'GPU fleet <gpufleet@example.org>', to: ['ops@example.org'] };

function mailTo(host: MailHost, settings: object = {}): Promise<Receiver> {
  return openReceiver('email', { ...PLAIN, smarthost: `127.0.0.1:${host.port}`, ...settings });
}

/** The mails that these notifications become, as their readers see them. */
async function mails(notifications: readonly Notification[], settings: object = {}): Promise<ParsedMail[]> {
  await using host = await startMailHost();
  await using receiver = await mailTo(host, settings);
  for (const notification of notifications)
    expect(await receiver.send(notification, soon())).toEqual({ outcome: 'sent' });
  return host.taken.map(({ raw }) => parsedMail(raw));
}

describe.skipIf(!canParseMail())('a mail', () => {
  test('says what, how bad and how much in its subject, in text and in HTML', async () => {
    const [mail] = await mails([sampleNotification({ severity: 'critical', firingCount: 12 })]);
    expect(mail!.defects).toEqual([]);
    expect(mail!.types).toEqual(['multipart/alternative', 'text/plain', 'text/html']);
    expect(headerOf(mail!, 'subject')).toBe('[CRITICAL:12] 1 GPU is too hot in alpha');
    expect(headerOf(mail!, 'from')).toBe('GPU fleet <gpufleet@example.org>');
    expect(headerOf(mail!, 'auto-submitted')).toBe('auto-generated');
    expect(headerOf(mail!, 'importance')).toBe('High');
    expect(Date.parse(headerOf(mail!, 'date'))).toBe(Date.UTC(2026, 0, 2, 3, 4, 10));
    for (const body of [mail!.text, mail!.html]) {
      expect(body).toContain('gpu-017 GPU 3');
      expect(body).toContain('https://runbooks.example/hot');
      expect(body).toContain('and 11 more');
    }
    expect(mail!.html).toContain('<a href="https://gpufleet.example/alerts?group=1">');
  });

  test('threads with its group and is one mail however often it is tried', async () => {
    const [first, again, later, other] = await mails([
      sampleNotification(),
      sampleNotification(),
      sampleNotification({ id: '2', status: 'resolved', resolvedCount: 3 }),
      sampleNotification({ id: '3', groupKey: 'fedcba9876543210' }),
    ]);
    expect(headerOf(again!, 'message-id')).toBe(headerOf(first!, 'message-id'));
    expect(headerOf(later!, 'message-id')).not.toBe(headerOf(first!, 'message-id'));
    expect(headerOf(later!, 'references')).toBe(headerOf(first!, 'references'));
    expect(headerOf(later!, 'in-reply-to')).toBe(headerOf(first!, 'in-reply-to'));
    expect(headerOf(other!, 'references')).not.toBe(headerOf(first!, 'references'));
    expect(headerOf(later!, 'subject')).toMatch(/^\[RESOLVED:3\] /);
  });

  test('has no header and no recipient more because of a label: CR and LF are spaces', async () => {
    const lines = 'a\r\nBcc: everyone@example.org\nX-Injected: 1\r\n\r\n<b>body</b>';
    const [plain, mail, hostile] = await mails([
      sampleNotification(),
      sampleNotification({
        title: lines,
        groupKey: lines,
        id: lines,
        groupLabels: { [lines]: lines },
        cluster: lines,
      }),
      hostileNotification(),
    ]);
    const names = (of: ParsedMail): string[] => of.headers.map(([name]) => name).sort();
    expect(names(mail!)).toEqual(names(plain!));
    expect(names(hostile!)).toEqual(names(plain!));
    expect(headerOf(mail!, 'subject')).toBe(
      '[WARNING:1] a Bcc: everyone@example.org X-Injected: 1 <b>body</b>',
    );
    expect([...mail!.defects, ...hostile!.defects]).toEqual([]);
  });

  test('runs nothing in its reader: every text is escaped, and only links of the web are links', async () => {
    const [mail] = await mails([hostileNotification()]);
    expect(mail!.html).not.toMatch(/<script|<b>body/i);
    expect(mail!.html).not.toContain('javascript:');
    expect(mail!.html).toContain('&#60;script&#62;');
    const tags = new Set([...mail!.html.matchAll(/<\/?([a-z0-9!]+)/gi)].map(([, tag]) => tag));
    expect([...tags].sort()).toEqual([
      '!doctype',
      'b',
      'body',
      'h2',
      'head',
      'html',
      'meta',
      'p',
      'table',
      'td',
      'tr',
    ]);
  });

  test.each(HOSTILE.map((text, index) => [index, text] as const))(
    'is right with hostile text %i',
    async (_, text) => {
      const firing = [sampleAlert({ node: text, summary: text, labels: { [text]: text } })];
      const [mail] = await mails([sampleNotification({ title: text, text, firing })]);
      expect(mail!.defects).toEqual([]);
      expect(headerOf(mail!, 'subject').length).toBeLessThanOrEqual(210);
    },
  );

  test('is of a size that every server takes, also for the largest notification', async () => {
    const [mail] = await mails([fullNotification()]);
    expect(mail!.text.length).toBeLessThan(50_000);
    expect(mail!.text).toContain('and 660 more');
  });

  test('goes to people whose names and addresses are not ASCII', async () => {
    await using host = await startMailHost();
    const to = ['Jürgen Müller <jürgen@exämple.org>', 'ops@example.org'];
    await using receiver = await mailTo(host, { from: 'Überwachung <gpu@bücher.example>', to });
    expect(await receiver.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    const [{ raw, from, to: recipients }] = host.taken as [MailHost['taken'][number]];
    expect(from).toMatch(/^gpu@(xn--bcher-kva|bücher)\.example$/);
    expect(recipients[0]).toMatch(/^jürgen@/);
    const mail = parsedMail(raw);
    expect(headerOf(mail, 'from')).toContain('Überwachung');
    expect(headerOf(mail, 'to')).toContain('Jürgen Müller');
  });
});

describe('an SMTP server', () => {
  test('is spoken to over STARTTLS with a password, and never without: it would be read on the way', async () => {
    await using dir = tempDir('email');
    await using authority = await TestAuthority.create();
    const certificate = await authority.issue('mail', 'IP:127.0.0.1');
    const login = { user: 'gpufleet', password: 'p4ss' };
    const password_file = secretIn(dir, 'password', 'p4ss');
    const settings = { tls: 'starttls', ca_file: authority.ca, username: 'gpufleet', password_file };
    await using host = await startMailHost({ certificate, login });
    await using receiver = await mailTo(host, settings);
    expect(await receiver.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    expect(host.taken).toMatchObject([{ user: 'gpufleet', encrypted: true }]);

    await using stripped = await startMailHost({ login });
    await using careful = await mailTo(stripped, settings);
    expect(await careful.send(sampleNotification(), soon())).toMatchObject({ outcome: 'retry' });
    await using stranger = await mailTo(host, { ...settings, ca_file: certificate.cert });
    expect(await stranger.send(sampleNotification({ id: '2' }), soon())).toMatchObject({ outcome: 'retry' });
    expect([host.taken.length, stripped.taken.length]).toEqual([1, 0]);

    secretIn(dir, 'password', 'wrong-secret');
    const wrong = await receiver.send(sampleNotification({ id: '3' }), soon());
    expect(wrong).toMatchObject({ outcome: 'refused', why: expect.stringContaining('535') });
    expect(JSON.stringify(wrong)).not.toContain('wrong-secret');
    secretIn(dir, 'password', 'p4ss');
    expect(await receiver.send(sampleNotification({ id: '3' }), soon())).toEqual({ outcome: 'sent' });
  });

  test('is spoken to with TLS from the first byte', async () => {
    await using authority = await TestAuthority.create();
    const certificate = await authority.issue('mail', 'IP:127.0.0.1');
    await using host = await startMailHost({ certificate, secure: true });
    await using receiver = await mailTo(host, { tls: 'tls', ca_file: authority.ca });
    expect(await receiver.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    expect(host.taken).toMatchObject([{ encrypted: true }]);
  });

  test('that puts one recipient off is tried again for that one alone: the others get one mail', async () => {
    await using host = await startMailHost();
    await using receiver = await mailTo(host, { to: ['a@example.org', 'b@example.org', 'c@example.org'] });
    host.recipients.set('b@example.org', { code: 450, words: 'greylisted' });
    const put = await receiver.send(sampleNotification(), soon());
    expect(put).toEqual({
      outcome: 'retry',
      why: expect.stringMatching(/b@example\.org.*greylisted.*\(2 others got it\)/),
    });
    host.recipients.clear();
    expect(await receiver.send(sampleNotification(), soon())).toEqual({ outcome: 'sent' });
    expect(host.taken.map(({ to }) => to)).toEqual([['a@example.org', 'c@example.org'], ['b@example.org']]);
  });

  test('that knows one recipient not at all: that is said, by name, and the others have their mail', async () => {
    await using host = await startMailHost();
    await using receiver = await mailTo(host, { to: ['a@example.org', 'gone@example.org'] });
    host.recipients.set('gone@example.org', { code: 550, words: 'no such user' });
    expect(await receiver.send(sampleNotification(), soon())).toEqual({
      outcome: 'refused',
      why: expect.stringMatching(/gone@example\.org.*no such user.*\(1 others got it\)/),
    });
    expect(host.taken.map(({ to }) => to)).toEqual([['a@example.org']]);
  });

  test.each([
    [{ code: 450, words: 'not now' }, 'retry'],
    [{ code: 553, words: 'not you' }, 'refused'],
  ] as const)('that answers the sender with %o', async (sender, outcome) => {
    await using host = await startMailHost();
    await using receiver = await mailTo(host);
    host.sender = sender;
    expect(await receiver.send(sampleNotification(), soon())).toMatchObject({
      outcome,
      why: expect.stringContaining(sender.words),
    });
    host.sender = undefined;
    host.recipients.set('ops@example.org', sender);
    expect(await receiver.send(sampleNotification(), soon())).toMatchObject({ outcome });
  });

  test('that hangs holds no connection after the deadline: a dead relay must not use up ours', async () => {
    await using host = await startMailHost();
    await using receiver = await mailTo(host);
    host.hang = true;
    const deadline = new AbortController();
    const sending = receiver.send(sampleNotification(), deadline.signal);
    await until(() => host.reached === 1, { timeoutMs: 20_000, what: 'the message arrives' });
    deadline.abort();
    expect(await sending).toMatchObject({ outcome: 'retry' });
    await until(() => host.connections() === 0, { timeoutMs: 20_000, what: 'the connection ends' });
  });
});

describe('settings of e-mail', () => {
  const settings = { ...PLAIN, smarthost: 'mail.example.org:25', tls: 'starttls' };
  test.each([
    [{ to: ['ops@example.org\r\nBcc: x@example.org'] }, 'must be an e-mail address'],
    [{ to: ['ops@example.org, x@example.org'] }, 'must be an e-mail address'],
    [{ to: [] }, 'must be at least one address'],
    [{ from: 'nobody' }, 'must be an e-mail address'],
    [{ username: 'me' }, 'username and password_file belong together'],
    [{ username: 'me', password_file: '/p', tls: 'none' }, 'would send the password unencrypted'],
    [{ tls: 'maybe' }, 'must be starttls, tls or none'],
    [{ password: 'secret' }, 'password'],
  ])('%o are refused', async (more, words) => {
    await expect(openReceiver('email', { ...settings, ...more })).rejects.toThrow(words);
  });
});
