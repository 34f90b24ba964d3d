/**
 * Progress on stderr, so that stdout stays the result's.
 * Invariant: a terminal sees one line that rewrites itself and is gone at the end.
 */

/**
 * One line that rewrites itself on a terminal, plain lines elsewhere.
 * @param {NodeJS.WriteStream} stream
 */
export function createProgress(stream) {
  let open = false;
  let last = '';
  return {
    /** @param {string} text @param {{ done: number, total: number }} [of] */
    say(text, of) {
      if (stream.isTTY) {
        const share = of ? ` ${of.done.toLocaleString('en-US')} / ${of.total.toLocaleString('en-US')}` : '';
        stream.write(`\r\u001b[2K${text}${share}`);
        open = true;
      } else if (text !== last) {
        stream.write(`${text}\n`);
      }
      last = text;
    },
    /** Leaves the terminal clean for what follows. */
    done() {
      if (open) stream.write('\r\u001b[2K');
      open = false;
    },
  };
}
