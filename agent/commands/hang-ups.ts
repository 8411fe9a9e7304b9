/**
 * Carries out SIGHUPs one after the other. Those that come before there is an agent, or while one is carried out, make
 * one more together: it reads what the last of them told of.
 */
export class HangUps {
  #work: (() => Promise<void>) | undefined;
  #asked = false;
  #working = false;

  ask(): void {
    this.#asked = true;
    void this.#go();
  }

  /** From now on with this, which must not throw. */
  serve(work: () => Promise<void>): void {
    this.#work = work;
    void this.#go();
  }

  async #go(): Promise<void> {
    if (!this.#work || this.#working) return;
    this.#working = true;
    while (this.#asked) {
      this.#asked = false;
      await this.#work();
    }
    this.#working = false;
  }
}
