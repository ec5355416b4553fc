/** Something to be done soon: after a while of quiet, or at a steady pace however often it is asked for. */
export class Later {
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** @param ms the quiet that is waited for, or the time between two of a steady pace */
  constructor(
    private readonly ms: number,
    private readonly when: "quiet" | "steady",
    private readonly work: () => void,
  ) {}

  soon(): void {
    if (this.timer !== undefined && this.when === "steady") return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.work();
    }, this.ms);
  }

  never(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
